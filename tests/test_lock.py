import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ["requirements.txt", "requirements-dev.txt"]


def pins_of(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_no_host_and_no_folder_of_the_machine_that_made_it(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"://|^-|--(?!hash=sha256:)|(?<![\w.])/\w", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock: str) -> None:
    entries = re.findall(
        r"^[a-z0-9-]+==\S+ \\\n(?:    --hash=sha256:[0-9a-f]{64}.*\n)+", (ROOT / lock).read_text(), re.MULTILINE
    )
    assert len(entries) == len(pins_of(lock)) > 20


def test_development_pins_what_production_pins() -> None:
    assert pins_of("requirements.txt").items() <= pins_of("requirements-dev.txt").items()


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for lock, wanted in [
        ("requirements.txt", project["dependencies"]),
        ("requirements-dev.txt", project["optional-dependencies"]["dev"]),
    ]:
        names = {re.split(r"[\[>=<~! ]", each)[0].lower().replace(".", "-") for each in wanted}
        assert names <= pins_of(lock).keys(), lock
