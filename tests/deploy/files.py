"""The files of `deploy/` as data: what each starts, sets, and asks to find out whether it is well."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from tests.served import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
DOCKERFILE = DEPLOY / "Dockerfile"
FLY = DEPLOY / "fly.toml"
RENDER = DEPLOY / "render.yaml"
MANIFESTS = [DEPLOY / "kubernetes" / f"{name}.yaml" for name in ("settings", "web", "worker")]
UNITS = [DEPLOY / "systemd" / f"{name}.service" for name in ("segment-lotus", "segment-lotus-worker")]
EXAMPLES = [DEPLOY / "compose.env.example", DEPLOY / "systemd" / "service.env.example"]


class Instruction(NamedTuple):
    """One instruction of a Dockerfile."""

    word: str
    rest: str


def instructions() -> list[Instruction]:
    """Return the instructions of the Dockerfile. It has no line that goes on in the next."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    return [Instruction(*line.split(" ", 1)) for line in lines]


def documents(path: Path) -> list[Any]:
    """Return the documents of a YAML file."""
    return list(YAML(typ="safe").load_all(path))


def all_files() -> list[str]:
    """Return the names of all files below `deploy/`."""
    return sorted(str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*") if path.is_file())


def unit(path: Path) -> dict[str, list[str]]:
    """Return the values of each key of a unit."""
    values: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            values.setdefault(key, []).append(value)
    return values


def containers() -> Iterator[Any]:
    """Give the containers of all Deployments, those that run before included."""
    for manifest in MANIFESTS:
        for document in documents(manifest):
            if document["kind"] == "Deployment":
                spec = document["spec"]["template"]["spec"]
                yield from (*spec.get("initContainers", []), *spec["containers"])


def commands() -> dict[str, list[str]]:
    """Return the words of each command of the program that a file starts, by file and place."""
    return {**_commands_of_containers(), **_commands_of_units(), **_commands_of_platforms()}


def _commands_of_containers() -> dict[str, list[str]]:
    [start] = (each.rest for each in instructions() if each.word == "CMD")
    found: dict[str, list[str]] = {"Dockerfile": json.loads(start)}
    for name, service in documents(COMPOSE)[0]["services"].items():
        if "command" in service:
            found[f"compose.yaml {name}"] = list(service["command"])
    for container in containers():
        found[f"kubernetes {container['name']}"] = list(container["command"])
    return found


def _commands_of_units() -> dict[str, list[str]]:
    return {
        f"{path.name} {key}": shlex.split(line)
        for path in UNITS
        for key in ("ExecStartPre", "ExecStart")
        for line in unit(path).get(key, [])
    }


def _commands_of_platforms() -> dict[str, list[str]]:
    fly = tomllib.loads(FLY.read_text())
    lines = {f"fly.toml {name}": line for name, line in fly["processes"].items()}
    lines["fly.toml release"] = fly["deploy"]["release_command"]
    for service in documents(RENDER)[0]["services"]:
        for key in ("dockerCommand", "preDeployCommand"):
            if key in service:
                lines[f"render.yaml {service['name']} {key}"] = service[key]
    return {place: shlex.split(line) for place, line in lines.items()}


def settings_named() -> dict[str, set[str]]:
    """Return the names of the environment that each file sets for the program."""
    compose = documents(COMPOSE)[0]["services"]
    named = {f"compose.yaml {name}": set(compose[name]["environment"]) for name in ("web", "worker", "migrate")}
    for example in EXAMPLES:
        named[example.name] = set(re.findall(r"^#?([A-Z_]+)=", example.read_text(), re.MULTILINE))
    named["compose.env.example"] -= {"DOMAIN", "POSTGRES_PASSWORD"}
    for path in UNITS:
        named[path.name] = {value.partition("=")[0] for value in unit(path)["Environment"]}
    named["settings.yaml"] = set(documents(MANIFESTS[0])[0]["data"])
    named["settings.yaml secret"] = set(re.findall(r"--from-literal=([A-Z_]+)=", MANIFESTS[0].read_text()))
    named["fly.toml"] = set(tomllib.loads(FLY.read_text())["env"])
    named["fly.toml secrets"] = set(re.findall(r" ([A-Z_]+)=\.\.\.", FLY.read_text()))
    for service in documents(RENDER)[0]["services"]:
        named[f"render.yaml {service['name']}"] = {variable["key"] for variable in service["envVars"]}
    return named


def probes() -> dict[str, tuple[str, int | str]]:
    """Return path and port of each probe over HTTP, by file and place."""
    found: dict[str, tuple[str, int | str]] = {}
    for container in containers():
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if kind in container:
                get = container[kind]["httpGet"]
                found[f"kubernetes {container['name']} {kind}"] = (get["path"], ports[get["port"]])
    service = tomllib.loads(FLY.read_text())["http_service"]
    for check in service["checks"]:
        found["fly.toml"] = (check["path"], service["internal_port"])
    # Render tells the program its port.
    found["render.yaml"] = (documents(RENDER)[0]["services"][0]["healthCheckPath"], 8000)
    return found
