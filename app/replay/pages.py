"""Replays: asked for, looked over, started, watched and stopped. On pages, and as JSON.

Nobody starts one by accident: asking for it first says how many calls it is about, and what would become of some.
"""

import secrets
import time

import msgspec
from flask import Blueprint, Response, request

from app.catalog.backend import Backend
from app.clock import clock
from app.errors import BadQuery, NotFound, Unavailable
from app.replay.batch import HooksOf
from app.replay.parameters import PARAMETERS, parse_asked, parse_bounds, to_texts
from app.replay.plan import Plan, ReplayRequest, Tally
from app.replay.process import ReplayProcesses
from app.replay.progress import ReplayState, to_asked, to_progress, to_state
from app.replay.replayer import Replayer
from app.replay.sql_replay_list import ask_to_stop, get_replay, list_replays, mark_idle, mark_running
from app.replay.sql_replays import append_replay, find_unfinished, lock_replays
from app.store.engine import Database
from app.store.ids import Ids
from app.store.query import parse_id, parse_limit
from app.web.errors import to_json
from app.web.pages import Pages, Values
from app.web.parameters import read_json_object, read_parameters
from app.web.sessions import CSRF_FIELD, require_admin_or_session
from app.web.sign_in import go_to

TRIED = 1000
"""Calls that are tried before somebody is asked."""

# Some first, and the rest only where that takes no longer than this: trying must not hold up other pages.
_TRIED_FIRST = 50
_TRYING_SECONDS = 0.5

_LISTED = 50
# Of the form on a page; the command line has the others.
_FIELDS = ("outcome", "event", "reason", "by", "version", "problem", "id", "since", "until", "correct")


class Replays:
    """What pages and programs do with replays."""

    def __init__(self, database: Database, processes: ReplayProcesses, to_hooks: HooksOf) -> None:
        self._database = database
        self._processes = processes
        self._to_hooks = to_hooks

    def look(self, backend: Backend, asked: ReplayRequest) -> Values:
        """Count what a replay would be about, and try some of it. Writes nothing."""
        replayer = self._replayer(backend)
        plan = _plan(replayer, asked)
        tried = _try(replayer, plan) if plan.left else Tally()
        return {"plan": plan, "tried": tried, "words": to_texts(asked)}

    def prepare(self, backend: Backend, asked: ReplayRequest) -> Plan:
        """Say what is to be begun, or gone on with."""
        return _plan(self._replayer(backend), asked)

    def start(self, plan: Plan) -> str:
        """Let a process replay what was prepared, unless one does; return the replay's id.

        Raises:
            Unavailable: no process can be started, or the database cannot be written to.

        """
        now = clock()
        with self._database.writing() as conn:
            lock_replays(conn)
            there = find_unfinished(conn, plan.replay.what)
            if there is not None and to_state(there, now) in {ReplayState.RUNNING, ReplayState.STOPPING}:
                return str(there.id)
            if there is not None and there.id == plan.replay.id:
                mark_running(conn, there.id, now)
            else:
                append_replay(conn, msgspec.structs.replace(plan.replay, progress_at=now))
        try:
            self._processes.start(plan.asked)
        except OSError as error:
            with self._database.writing() as conn:
                mark_idle(conn, plan.replay.id)
            raise Unavailable(f"no process could be started for it: {error.strerror}") from error
        return str(plan.replay.id)

    def _replayer(self, backend: Backend) -> Replayer:
        # This may run on a thread of its own, and the service's ids are for one thread.
        ids = Ids(secrets.randbelow)
        return Replayer(
            database=backend.database,
            catalog=backend.catalog,
            ids=ids,
            clock=clock,
            hooks=self._to_hooks(ids, forwards=False),
        )

    def stop(self, replay_id: int) -> None:
        """Ask a replay to end after its batch. Raises NotFound."""
        with self._database.writing() as conn:
            get_replay(conn, replay_id)
            ask_to_stop(conn, replay_id, clock())


def replay_pages(pages: Pages, replays: Replays) -> Blueprint:
    """Return the routes below `/replays`."""
    blueprint = pages.blueprint("replays")

    @blueprint.get("/replays")
    def show_list() -> Response:
        return pages.show("replays.html", _list)

    @blueprint.post("/replays")
    def ask() -> Response:
        asked = parse_asked(_form())
        return pages.show("replay_ask.html", lambda backend: replays.look(backend, asked))

    @blueprint.post("/replays/start")
    def start() -> Response:
        asked = parse_asked(_form())
        return go_to(f"/replays/{replays.start(pages.read(lambda backend: replays.prepare(backend, asked)))}")

    @blueprint.get("/replays/<replay_id>")
    def show(replay_id: str) -> Response:
        number = _id(replay_id)
        return pages.show("replay.html", lambda backend: _one(backend, number))

    @blueprint.post("/replays/<replay_id>/stop")
    def stop(replay_id: str) -> Response:
        replays.stop(_id(replay_id))
        return go_to(f"/replays/{_id(replay_id)}")

    @blueprint.post("/replays/<replay_id>/go-on")
    def go_on(replay_id: str) -> Response:
        number = _id(replay_id)

        def prepare(backend: Backend) -> Plan:
            with backend.database.reading() as conn:
                asked = to_asked(get_replay(conn, number))
            return replays.prepare(backend, asked)

        return go_to(f"/replays/{replays.start(pages.read(prepare))}")

    return blueprint


def replay_api(pages: Pages, replays: Replays, admin_token: str) -> Blueprint:
    """Return the routes below `/api/v1/replays`."""
    blueprint = Blueprint("replay_api", __name__, url_prefix="/api/v1/replays")
    blueprint.before_request(require_admin_or_session(admin_token))

    @blueprint.get("")
    def show_list() -> Response:
        texts = read_parameters("before", "limit")
        before = parse_id("before", texts["before"]) if "before" in texts else None
        limit = parse_limit(texts.get("limit"))

        def work(backend: Backend) -> object:
            with backend.database.reading() as conn:
                found = list_replays(conn, limit + 1, before)
            following = str(found[limit - 1].id) if len(found) > limit else None
            return {"replays": [to_progress(one, clock()).to_document() for one in found[:limit]], "next": following}

        return to_json(pages.read(work))

    @blueprint.post("")
    def start() -> Response:
        asked = parse_asked(_json())
        replay_id = replays.start(pages.read(lambda backend: replays.prepare(backend, asked)))
        return to_json(pages.read(lambda backend: _document(backend, int(replay_id))), 202)

    @blueprint.get("/<replay_id>")
    def show(replay_id: str) -> Response:
        number = _id(replay_id)
        return to_json(pages.read(lambda backend: _document(backend, number)))

    @blueprint.post("/<replay_id>/stop")
    def stop(replay_id: str) -> Response:
        replays.stop(_id(replay_id))
        return to_json(pages.read(lambda backend: _document(backend, _id(replay_id))))

    return blueprint


def _plan(replayer: Replayer, asked: ReplayRequest) -> Plan:
    return replayer.plan(asked, parse_bounds(asked, clock()))


def _try(replayer: Replayer, plan: Plan) -> Tally:
    """Count what would become of some calls: 50, and more where these are quickly done."""
    began = time.perf_counter()
    tally = _try_some(replayer, plan, _TRIED_FIRST)
    if plan.left > tally.read and (time.perf_counter() - began) * TRIED / _TRIED_FIRST < _TRYING_SECONDS:
        return _try_some(replayer, plan, TRIED)
    return tally


def _try_some(replayer: Replayer, plan: Plan, most: int) -> Tally:
    limit = most if plan.asked.limit is None else min(most, plan.left)
    asked = msgspec.structs.replace(plan.asked, limit=limit)
    some = Plan(
        asked=asked,
        replay=plan.replay,
        resumed=plan.resumed,
        transforms=plan.transforms,
        fill=plan.fill,
        tally=Tally(),
    )
    replayer.try_out(some, lambda _calls: None)
    return some.tally


def _list(backend: Backend) -> Values:
    with backend.database.reading() as conn:
        found = list_replays(conn, _LISTED)
    return {"replays": [to_progress(one, clock()) for one in found]}


def _one(backend: Backend, replay_id: int) -> Values:
    with backend.database.reading() as conn:
        return {"replay": to_progress(get_replay(conn, replay_id), clock())}


def _document(backend: Backend, replay_id: int) -> object:
    with backend.database.reading() as conn:
        return to_progress(get_replay(conn, replay_id), clock()).to_document()


def _id(text: str) -> int:
    try:
        return parse_id("id", text)
    except BadQuery as error:
        raise NotFound(f"there is no replay {text[:40]}") from error


def _form() -> dict[str, str]:
    """Return the words of a form; a field that is left empty is no word."""
    given = {name: text.strip() for name, text in request.form.items() if name != CSRF_FIELD and text.strip()}
    if wrong := next((name for name in given if name not in _FIELDS), None):
        raise BadQuery(f"there is no field {wrong[:40]!a}: there are {', '.join(_FIELDS)}")
    return given


def _json() -> dict[str, str]:
    """Return the words of a JSON object. Raises BadQuery."""
    said = read_json_object()
    if said is None or not all(isinstance(word, str | int | None) for word in said.values()):
        raise BadQuery(f"the body must be a JSON object with some of {', '.join(PARAMETERS)}")
    given = {name: word for name, word in said.items() if word is not None and word is not False}
    return {name: "yes" if word is True else str(word) for name, word in given.items()}
