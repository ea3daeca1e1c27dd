"""The list of transforms as a page: its forms, its queries."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from app.store.schema import publications
from app.transforms import sql_traffic as traffic
from tests.builders import a_document, to_raw
from tests.served import ADMIN_TOKEN
from tests.sites import Site
from tests.web.queries import queries_of

TEXT = "match: {event: API Call}\nexamples:\n  - {given: {}, expect: stored}\n"


@pytest.fixture
def signed_in(make_site: Callable[..., Site]) -> Site:
    """The application, with somebody signed in."""
    site = make_site()
    site.client.post("/sign-in", data={"token": ADMIN_TOKEN, "next": "/"})
    return site


def csrf(site: Site) -> str:
    with site.client.session_transaction() as session:
        return str(session["csrf"])


def write(site: Site, name: str, text: str) -> Path:
    file = site.service.settings.transforms_dir / f"{name}.yaml"
    file.write_text(text)
    return file


def look(site: Site) -> None:
    """Let the service see its files, which it believes only once they rest."""
    site.service.watcher.look()
    site.service.watcher.look()


def test_a_new_transform_is_named_after_its_event(signed_in: Site) -> None:
    for event, place in (
        ("Export Finished", "/transforms/export_finished?event=Export+Finished"),
        ("Ünï/..//x?a=b#c", "/transforms/n_x_a_b_c?event=%C3%9Cn%C3%AF%2F..%2F%2Fx%3Fa%3Db%23c"),
        ("//evil.example", "/transforms/evil_example?event=%2F%2Fevil.example"),
    ):
        answer = signed_in.client.post("/transforms", data={"event": event, "csrf": csrf(signed_in)})
        assert (answer.status_code, answer.headers["Location"]) == (303, place)
    for event in ("", "  ", "x" * 201, "a\nb"):
        answer = signed_in.client.post("/transforms", data={"event": event, "csrf": csrf(signed_in)})
        assert answer.status_code == 400
        assert b"Enter the name of the event" in answer.get_data()


def test_the_editor_of_a_new_transform_begins_with_what_calls_of_its_event_hold(signed_in: Site) -> None:
    signed_in.send(to_raw(a_document(event="Export Finished", properties={"rows": 3, "<b>": "x"})))
    text = signed_in.client.get("/transforms/export_finished?event=Export+Finished").get_data(as_text=True)
    for part in ("event: Export Finished", "rows: properties.rows", "Made from 1 stored call of"):
        assert part in text
    text = signed_in.client.get("/transforms/nobody_sent_it?event=Nobody+%3Cscript%3E").get_data(as_text=True)
    assert "event: &#34;Nobody &lt;script&gt;&#34;" in text
    assert "Name of the event" in signed_in.client.get("/transforms/anything").get_data(as_text=True)


def test_nothing_is_done_without_the_token_of_the_session(signed_in: Site) -> None:
    write(signed_in, "api_call", TEXT)
    look(signed_in)
    before = signed_in.rows(publications)
    for token in ("", "wrong"):
        for path, data in (("/transforms", {"event": "a"}), ("/transforms/api_call/resolve", {"take": "file"})):
            assert signed_in.client.post(path, data={**data, "csrf": token}).status_code == 403
    assert signed_in.rows(publications) == before


def test_what_cannot_be_resolved_is_said_on_the_page(signed_in: Site) -> None:
    write(signed_in, "api_call", TEXT)
    look(signed_in)
    write(signed_in, "api_call", "match: [")
    for name, take, said in (
        ("api_call", "file", b"Nothing was changed. api_call.yaml:1:9"),
        ("nowhere", "file", b"Nothing was changed. there is no nowhere.yaml"),
        ("nowhere", "live", b"Nothing was changed. nothing is live under the name"),
        ("no.name", "live", b"is not a valid transform name"),
        ("api_call", "both", b"Choose the file or the live version."),
    ):
        data = {"take": take, "csrf": csrf(signed_in)}
        answer = signed_in.client.post(f"/transforms/{name}/resolve", data=data)
        assert answer.status_code == 400
        assert said in answer.get_data(), answer.get_data(as_text=True)


def test_where_too_many_calls_came_the_counts_are_said_to_be_estimates(
    signed_in: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        signed_in.send(to_raw(a_document(messageId=f"m-{number}")))
    monkeypatch.setattr(traffic, "LOOKED_AT", 3)
    text = signed_in.client.get("/transforms").get_data(as_text=True)
    assert "More than 3 calls came in 24 hours" in text
    assert "&#8776;&#8239;6" in text


def test_a_message_of_the_address_is_one_of_ours(signed_in: Site) -> None:
    text = signed_in.client.get("/transforms?done=<b>x</b>&took=file").get_data(as_text=True)
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    text = signed_in.client.get("/transforms?done=x&took=Congratulations").get_data(as_text=True)
    # The form below the page leads back to this address, and says nothing.
    assert "Congratulations" not in re.sub('<input type="hidden"[^>]*>', "", text)


def test_the_queries_of_the_page_are_ten_at_most_however_much_there_is(signed_in: Site) -> None:
    def count() -> int:
        return len([query for query in queries_of(signed_in, "/transforms") if not query.startswith("PRAGMA")])

    before = count()
    for number in range(20):
        write(signed_in, f"t{number}", TEXT.replace("API Call", f"Event {number}"))
        signed_in.send(to_raw(a_document(messageId=f"m-{number}", event=f"Event {number}")))
    look(signed_in)
    assert count() == before <= 10
