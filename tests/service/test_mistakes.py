"""The commonest mistakes of a first hour, typed into the real program: each is said in a sentence."""

import fcntl
import http.client
import json
import os
import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest

from app.cli.service_record import list_services
from tests.pool import named
from tests.served import ADMIN_TOKEN, free_port
from tests.service.test_serve import Folder, answers, on_a_terminal

AWAY = {
    "postgresql://ann:hunter2@127.0.0.1:1/d": "PostgreSQL at 127.0.0.1:1 (DATABASE_URL): Connection refused",
    "postgresql://ann:hunter2@host.invalid/d": "PostgreSQL at host.invalid:5432 (DATABASE_URL): ",
    "postgresql:///d?host=/nowhere": "PostgreSQL at /nowhere (DATABASE_URL): No such file or directory",
    "postgresql://ann:hunter2@127.0.0.1:port/d": "DATABASE_URL must name one server",
    "postgresql://ann:hunter2@x@127.0.0.1/d": "DATABASE_URL must name one server",
}
ENOUGH = {"SEGMENT_SHARED_SECRETS": "one", "ADMIN_TOKEN": ADMIN_TOKEN}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, free_port())


@pytest.mark.parametrize("url", AWAY)
@pytest.mark.parametrize("command", ["serve", "log", "migrate"])
def test_a_database_that_is_away_is_named_with_the_reason_and_without_its_password(
    folder: Folder, url: str, command: str
) -> None:
    done = folder.type(command, DATABASE_URL=url, **ENOUGH)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert AWAY[url] in done.stderr
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stdout + done.stderr


def test_a_server_that_does_not_have_the_database_says_so(folder: Folder, postgres_url: str) -> None:
    done = folder.type("log", DATABASE_URL=named(postgres_url, "nowhere"))
    assert 'database "nowhere" does not exist' in done.stderr
    assert "PostgreSQL at " in done.stderr


def test_a_worker_says_at_once_which_database_it_waits_for(folder: Folder) -> None:
    settings = {"DATABASE_URL": "postgresql://127.0.0.1:1/d", "LOTUS_API_KEY": "k", "LOTUS_HOST": "http://127.0.0.1:9"}
    process = folder.start("worker", **settings)
    assert process.stdout is not None
    line = json.loads(process.stdout.readline())
    process.terminate()
    assert process.communicate(timeout=30)[1] == ""
    assert line["event"] == "waiting for the database"
    assert "PostgreSQL at 127.0.0.1:1 (DATABASE_URL): Connection refused" in line["error"]


def test_a_misspelt_setting_is_said_where_its_absence_stops_the_service_and_its_value_is_not(folder: Folder) -> None:
    (folder.path / ".env").write_text("LOTUS_APIKEY=hunter2\nDATABASE_URL=sqlite:///x.db\nPOSTGRES_USER=me\n")
    wrong = {"SEGMENT_SHARED_SECRET": "hunter2", "ADMIN_TOKEN": ADMIN_TOKEN}
    for command in ("serve", "doctor"):
        done = folder.type(command, **wrong)
        text = done.stdout + done.stderr
        assert done.returncode == 1
        assert "SEGMENT_SHARED_SECRET in the environment is no setting" in text
        assert "did you mean SEGMENT_SHARED_SECRETS?" in text
        assert "LOTUS_APIKEY in .env is no setting, and is not used: did you mean LOTUS_API_KEY?" in text
        assert "POSTGRES_USER" not in text
        assert "hunter2" not in text


def test_the_environment_can_have_all_of_it_and_then_nobody_needs_a_dotenv(folder: Folder) -> None:
    environment = {**ENOUGH, "DATABASE_URL": "sqlite:///x.db"}
    done = folder.type("init", **environment)
    assert (done.returncode, (folder.path / ".env").exists()) == (0, False)
    # What Docker makes of a mounted file that is not there. It cannot be read, and nobody has to.
    (folder.path / ".env").mkdir()
    assert folder.type("migrate", **environment).returncode == 0
    assert "Is a directory. The environment has all that is needed" in folder.type("doctor", **environment).stdout
    missing = folder.type("migrate", DATABASE_URL="sqlite:///x.db")
    assert (missing.returncode, "cannot be read: Is a directory" in missing.stderr) == (1, True)


def test_doctor_says_which_lines_of_dotenv_the_environment_overrides(folder: Folder) -> None:
    (folder.path / ".env").write_text(f"ADMIN_TOKEN=another\nSEGMENT_SHARED_SECRETS=one\nPORT={folder.port}\n")
    shown = folder.type("doctor", DATABASE_URL="sqlite:///x.db", **ENOUGH).stdout
    assert "not used in .env, since the environment has another value: ADMIN_TOKEN\n" in shown


def test_on_a_terminal_a_used_port_is_said_before_the_banner_with_the_command_for_another(folder: Folder) -> None:
    folder.type("init")
    folder.type("migrate")
    with socket.create_server(("127.0.0.1", folder.port)):
        shown = on_a_terminal(folder, lambda shown: "error:" in shown)
    assert f"error: port {folder.port} of 127.0.0.1 is in use. Use another one: PORT=" in shown
    assert int(shown.split("PORT=")[1].split()[0]) > folder.port
    assert "segment-lotus serve" in shown
    assert "Webhook URL" not in shown


def test_a_host_that_is_not_here_is_said(folder: Folder) -> None:
    folder.type("init")
    done = folder.type("serve", HOST="192.0.2.1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot listen on 192.0.2.1: ")


def test_a_terminal_shows_what_is_next_and_a_link_that_signs_in_once_and_send_finds_the_service_on_its_other_port(
    folder: Folder,
) -> None:
    folder.type("init")
    folder.type("migrate")
    sent: list[str] = []
    signed_in: list[tuple[int, str]] = []

    def follow(shown: str) -> bool:
        if not ("Booting worker" in shown and answers(folder.port)):
            return False
        key = shown.split("/sign-in/link?key=")[1].split(maxsplit=1)[0]
        for method in ("GET", "HEAD", "GET", "POST", "POST"):
            with closing(http.client.HTTPConnection("127.0.0.1", folder.port, timeout=10)) as connection:
                body = urlencode({"key": key}) if method == "POST" else None
                headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
                connection.request(method, "/sign-in/link" + ("" if body else f"?key={key}"), body, headers)
                answer = connection.getresponse()
                signed_in.append((answer.status, answer.getheader("Location") or ""))
                answer.read()
        # Without PORT in the environment, as in a second terminal.
        elsewhere = Folder(folder.path, folder.port)
        sent.append(elsewhere.type("send", "seats", PORT="").stdout)
        return True

    shown = on_a_terminal(folder, follow)
    assert signed_in == [(200, ""), (200, ""), (200, ""), (303, "/setup"), (401, "")]
    assert "once, within 10 minutes" in shown
    for hint in (f"http://127.0.0.1:{folder.port}/webhooks/segment", ".env, SEGMENT_SHARED_SECRETS", "send sample"):
        assert hint in shown
    assert folder.secret() not in shown
    assert sent[0].startswith("seats              200")
    assert list_services(folder.path / "var") == []
    assert not list((folder.path / "var").glob("service-*.json"))


def test_the_file_of_a_service_that_was_killed_misleads_nobody(folder: Folder) -> None:
    var = folder.path / "var"
    var.mkdir()
    file = var / "service-9.json"
    file.write_text(json.dumps({"host": "127.0.0.1", "port": 9, "pid": os.getpid()}))
    assert list_services(var) == []
    with file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert [service.port for service in list_services(var)] == [9]
        folder.type("init")
        # Its port is obeyed where the environment names it; else the service of this folder is meant.
        assert "127.0.0.1:9 does not answer" in folder.type("send", "seats", PORT="").stderr
        assert f"127.0.0.1:{folder.port} does not answer" in folder.type("send", "seats").stderr
