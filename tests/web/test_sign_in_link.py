"""One-time sign-in links: what they open, for whom, and how often."""

import re
from collections.abc import Callable

import pytest

from app.clock import clock
from app.store.engine import Database
from app.store.nodes import spend_link
from app.web.sign_in_link import LIFETIME_MINUTES, PATH, find_link, make_link_key
from tests.served import ADMIN_TOKEN
from tests.sites import Site

MINUTE = 60_000_000


def follow(site: Site, key: str, **environ: str) -> int:
    answer = site.app.test_client().post(PATH, data={"key": key}, environ_overrides=environ)
    return answer.status_code


def test_a_link_shows_a_button_and_only_the_button_spends_it(make_site: Callable[..., Site]) -> None:
    site, another = make_site(), make_site()
    key = make_link_key(ADMIN_TOKEN, clock())
    for _ in range(2):
        page = site.client.get(f"{PATH}?key={key}")
        assert f'name="key" value="{key}"' in page.get_data(as_text=True)
        assert page.headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert page.headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in page.headers
    assert site.client.get("/").status_code == 401
    answer = site.client.post(PATH, data={"key": key})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/setup")
    assert site.client.get("/").status_code == 200
    # Once for all processes on the database.
    assert [follow(site, key), follow(another, key)] == [401, 401]


@pytest.mark.parametrize(
    "environ",
    [
        {"REMOTE_ADDR": "192.0.2.1"},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
        {"REMOTE_ADDR": ""},
    ],
)
def test_a_link_opens_nothing_from_elsewhere_and_stays_unspent(site: Site, environ: dict[str, str]) -> None:
    key = make_link_key(ADMIN_TOKEN, clock())
    assert follow(site, key, **environ) == 403
    assert site.client.get(PATH, environ_overrides=environ).status_code == 403
    assert follow(site, key) == 303


SPOILT: dict[str, Callable[[str], str]] = {
    "empty": lambda _key: "",
    "cut": lambda key: key[:-1],
    "longer": lambda key: key + "0",
    "prolonged": lambda key: str(int(key.split(".")[0]) + 1) + key[key.index(".") :],
    "another id": lambda key: re.sub(r"\.[^.]*\.", ".another.", key),
    "another token": lambda _key: make_link_key("another-admin-token", clock()),
    "old": lambda _key: make_link_key(ADMIN_TOKEN, clock() - LIFETIME_MINUTES * MINUTE),
    "not ASCII": lambda _key: "é.\0.ü",
    "huge": lambda _key: "." * 5000,
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_key_that_is_old_or_not_signed_here_opens_nothing(site: Site, how: str) -> None:
    assert follow(site, SPOILT[how](make_link_key(ADMIN_TOKEN, clock()))) in {401, 413}


def test_without_an_admin_token_no_key_is_valid() -> None:
    assert find_link("", make_link_key("", clock())) is None


def test_a_spent_link_is_kept_until_it_would_expire_anyway(database: Database) -> None:
    now = clock()
    spent = []
    for id_, at in (("a", now), ("a", now), ("b", now), ("a", now + MINUTE + 1)):
        with database.writing() as conn:
            spent.append(spend_link(conn, id_, now + MINUTE, at))
    # The last one only shows that its row is gone: nobody accepts its key by then.
    assert spent == [True, False, True, True]
