"""Each file of `deploy/` has the form that its tool wants, and names what there is: commands, settings, paths."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
import kubernetes_validate
import pytest

from app.errors import SettingInvalid
from app.service.commands import main
from app.settings import SETTINGS, Settings, load_for_serving
from tests.deploy.files import (
    COMPOSE,
    DEPLOY,
    EXAMPLES,
    MANIFESTS,
    RENDER,
    UNITS,
    all_files,
    commands,
    containers,
    documents,
    instructions,
    probes,
    settings_named,
    unit,
)
from tests.docs import DOCS, ROOT, blocks_of, section_of
from tests.served import Served

KUBERNETES = "1.37"
SECRETS = ("POSTGRES_PASSWORD", "SEGMENT_SHARED_SECRETS", "ADMIN_TOKEN")


def to_id(value: object) -> str:
    return value if isinstance(value, str) else ""


def is_command(words: list[str]) -> bool:
    """Whether the program takes these words."""
    program, name, *rest = words
    if not (program == "segment-lotus" or program.endswith("/bin/segment-lotus")):
        return False
    command = main.commands.get(name)
    if command is None:
        return False
    try:
        command.make_context(name, list(rest)).close()
    except click.MissingParameter:
        # It is named, and not typed as a whole.
        return True
    except click.UsageError:
        return False
    return True


@pytest.mark.parametrize(("place", "words"), commands().items(), ids=to_id)
def test_each_command_that_a_file_starts_is_one_of_the_program(place: str, words: list[str]) -> None:
    assert is_command(words), place


def test_a_command_that_the_program_does_not_take_would_be_noticed() -> None:
    assert not is_command(["segment-lotus", "work"])
    assert not is_command(["segment-lotus", "serve", "--workers"])
    assert not is_command(["gunicorn", "serve"])


def test_each_command_of_the_page_about_deploying_is_one_of_the_program() -> None:
    blocks = [block.text for block in blocks_of(DOCS / "deploy.md")]
    spans = re.findall(r"`((?:\S+/)?segment-lotus [^`]+)`", (DOCS / "deploy.md").read_text())
    typed = [line.partition("#")[0].split() for text in [*blocks, *spans] for line in text.splitlines()]
    found = [
        words[at:]
        for words in typed
        for at, word in enumerate(words[:-1])
        if re.fullmatch(r"(\S+/bin/)?segment-lotus", word)
    ]
    # A unit, an account and a namespace have its name, too.
    own = [words for words in found if words[1] in main.commands]
    assert len(own) >= 4
    assert all(is_command(words) for words in own)


def test_every_way_starts_the_service_a_worker_and_the_migration() -> None:
    by_file: dict[str, set[str]] = {}
    for place, words in commands().items():
        by_file.setdefault(re.split(r"[ .-]", place)[0], set()).add(words[1])
    # In Compose the service is started as the image says; so it is in the image itself.
    assert by_file.pop("Dockerfile") | by_file.pop("compose") == {"serve", "worker", "migrate"}
    assert by_file.keys() == {"kubernetes", "segment", "fly", "render"}
    assert all(names == {"serve", "worker", "migrate"} for names in by_file.values())


@pytest.mark.parametrize(("place", "names"), settings_named().items(), ids=to_id)
def test_each_setting_that_a_file_names_is_one(place: str, names: set[str]) -> None:
    assert names
    assert names <= {setting.name for setting in SETTINGS}, place


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_complete_once_its_secrets_are_filled_in(example: Path, tmp_path: Path) -> None:
    text = example.read_text()
    own = {"DATABASE_URL": "sqlite:///var/my.db"}
    with pytest.raises(SettingInvalid, match="SEGMENT_SHARED_SECRETS"):
        load_for_serving(own, example)
    for name in SECRETS:
        text = text.replace(f"{name}=\n", f"{name}={'0123456789abcdef' * 4}\n")
    (tmp_path / "env").write_text(text)
    settings = load_for_serving(own, tmp_path / "env")
    assert settings.admin_token
    (tmp_path / "env").write_text(re.sub(r"^#([A-Z])", r"\1", text, flags=re.MULTILINE))
    everything = load_for_serving({**own, "LOTUS_HOST": "https://lotus.example.com"}, tmp_path / "env")
    assert everything.admin_token == settings.admin_token


@pytest.mark.parametrize(("place", "probe"), probes().items(), ids=to_id)
def test_each_probe_asks_a_path_that_answers_on_the_port_of_the_service(
    service: Served, place: str, probe: tuple[str, int]
) -> None:
    path, port = probe
    assert port == Settings().port, place
    assert service.get(path).status == 200


def test_compose_has_the_form_of_its_specification(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text(COMPOSE.read_text().replace("stop_grace_period", "stop_grace_periode"))
    checks = {}
    for path in (COMPOSE, broken):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
        checks[path] = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checks[COMPOSE].returncode == 0, checks[COMPOSE].stdout
    assert checks[broken].returncode == 1


def test_compose_starts_the_parts_in_order_with_nothing_left_to_guess() -> None:
    text = COMPOSE.read_text()
    services = documents(COMPOSE)[0]["services"]
    assert set(services) == {"web", "worker", "migrate", "database", "proxy"}
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
    names = set(re.findall(r"\$\{([A-Z_]+)", text))
    assert names == set(re.findall(r"^([A-Z_]+)=", (DEPLOY / "compose.env.example").read_text(), re.MULTILINE))
    assert {name for name in names if f"${{{name}:?" in text} == {*SECRETS, "DOMAIN"}
    # What the database answers to is what the program and the health check ask for.
    database = services["database"]
    user, name = database["environment"]["POSTGRES_USER"], database["environment"]["POSTGRES_DB"]
    url = services["web"]["environment"]["DATABASE_URL"]
    assert re.fullmatch(rf"postgresql://{user}:\$\{{POSTGRES_PASSWORD:\?.+\}}@database/{name}", url)
    assert {f"--username={user}", f"--dbname={name}"} <= set(database["healthcheck"]["test"])
    assert services["proxy"]["environment"]["SERVICE"] == f"web:{Settings().port}"
    for volume in services["proxy"]["volumes"]:
        source = volume.split(":")[0]
        assert not source.startswith("./") or (DEPLOY / source).is_file()
    build = services["web"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_each_manifest_has_the_form_of_its_kind(manifest: Path) -> None:
    for document in documents(manifest):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**document, "specification": {}}, KUBERNETES, strict=True)


def test_the_manifests_name_each_other() -> None:
    everything = {(each["kind"], each["metadata"]["name"]): each for path in MANIFESTS for each in documents(path)}
    web = everything["Deployment", "segment-lotus-web"]["spec"]
    labels = web["template"]["metadata"]["labels"]
    assert everything["Service", "segment-lotus"]["spec"]["selector"] == labels
    budget = everything["PodDisruptionBudget", "segment-lotus-web"]["spec"]
    assert budget["selector"]["matchLabels"] == labels
    # A drain of a machine can go on, and leaves a node that answers.
    assert 0 < budget["minAvailable"] < web["replicas"]
    backend = everything["Ingress", "segment-lotus"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == "segment-lotus"
    assert ("ConfigMap", "segment-lotus") in everything
    for container in containers():
        names = {source["name"] for each in container["envFrom"] for source in each.values()}
        assert names == {"segment-lotus"}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
    kustomization = documents(DEPLOY / "kubernetes" / "kustomization.yaml")[0]
    assert sorted(kustomization["resources"]) == sorted(path.name for path in MANIFESTS)


def test_a_node_that_ends_has_longer_than_requests_may_take() -> None:
    graceful = 10
    assert re.search(
        rf"^graceful_timeout = {graceful}$", (ROOT / "app/service/gunicorn_conf.py").read_text(), re.MULTILINE
    )
    compose = documents(COMPOSE)[0]["services"]["web"]["stop_grace_period"]
    fly = tomllib.loads((DEPLOY / "fly.toml").read_text())["kill_timeout"]
    units = [unit(path)["TimeoutStopSec"][0] for path in UNITS]
    render = documents(RENDER)[0]["services"][0]["maxShutdownDelaySeconds"]
    kubernetes = [
        each["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] - 5
        for path in MANIFESTS
        for each in documents(path)
        if each["kind"] == "Deployment"
    ]
    for limit in (compose, fly, *units, render, *kubernetes):
        assert int(str(limit).removesuffix("s")) > graceful


def test_render_names_its_own_files_services_and_database() -> None:
    blueprint = documents(RENDER)[0]
    services = {service["name"]: service for service in blueprint["services"]}
    databases = {database["name"] for database in blueprint["databases"]}
    for service in services.values():
        assert (ROOT / service["dockerfilePath"]).samefile(DEPLOY / "Dockerfile")
        for variable in service["envVars"]:
            if "fromDatabase" in variable:
                assert variable["fromDatabase"]["name"] in databases
            if "fromService" in variable:
                source = variable["fromService"]
                keys = {each["key"] for each in services[source["name"]]["envVars"]}
                assert source["envVarKey"] in keys


def test_the_image_has_the_python_that_the_tests_run_on() -> None:
    version = (ROOT / ".python-version").read_text().strip()
    images = {each.rest.split(" ")[0] for each in instructions() if each.word == "FROM"}
    assert images == {f"python:{version}-slim-bookworm"}


PROXIES: dict[str, Callable[[str], bool]] = {
    "Caddyfile": lambda text: "max_size" not in text,
    "nginx.conf": lambda text: "client_max_body_size 0;" in text,
    "kubernetes/web.yaml": lambda text: 'proxy-body-size: "0"' in text,
}


@pytest.mark.parametrize("name", PROXIES)
def test_no_proxy_refuses_a_body_before_the_service_sees_it(name: str) -> None:
    assert PROXIES[name]((DEPLOY / name).read_text())


def test_the_page_about_deploying_says_what_each_file_is_and_what_was_not_tried() -> None:
    text = (DOCS / "deploy.md").read_text()
    files = section_of(DOCS / "deploy.md", "## Files")
    assert [name for name in all_files() if f"`{name}`" not in files] == []
    named = re.findall(r"^\| `([^`]+)` \|", files, re.MULTILINE)
    assert sorted(named) == all_files()
    assert "## Not tried" in text
