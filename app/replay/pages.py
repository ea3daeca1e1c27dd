"""Replays on pages and as JSON: request, preview, start, progress and stop.

To prevent accidents, the page first shows how many calls it covers, and a dry run of some of them.
"""

import dataclasses
import secrets
import time

import msgspec
from flask import Blueprint, Response

from app.catalog.backend import Backend
from app.clock import clock
from app.errors import BadQuery, Unavailable
from app.replay.context import HooksFactory
from app.replay.correction_batch import to_attribution, to_effect, without_counts
from app.replay.parameters import (
    ATTRIBUTION,
    PARAMETERS,
    parse_attribution,
    parse_bounds,
    parse_replay_request,
    to_texts,
)
from app.replay.plan import Plan, ReplayRequest, Tally, append_plan
from app.replay.process import ReplayProcesses
from app.replay.progress import ReplayState, get_progress, list_progress, to_replay_request, to_state
from app.replay.replayer import Replayer
from app.replay.sql_replay_list import ask_to_stop, get_replay, mark_idle, mark_running
from app.replay.sql_replays import find_unfinished
from app.store.corrections import Attribution
from app.store.engine import Connection, Database
from app.store.faults import find_sentence
from app.store.ids import Ids
from app.store.query import parse_path_id
from app.store.tally import Effect
from app.store.voids import lock_replays
from app.web.errors import to_json
from app.web.pages import Pages, Values
from app.web.parameters import read_form, read_json_object, read_list_parameters
from app.web.sessions import api_blueprint
from app.web.sign_in import go_to

SAMPLE_MAX = 1000
"""Calls in the dry run of a preview, at most."""

# A few first, and more only if that is quick enough: the dry run must not hold up other pages.
_SAMPLE_FIRST = 50
_SAMPLE_SECONDS = 0.5

_LISTED = 50
_ROWS = 20
"""Effects on metrics that are shown; the batch has more."""
_COUNT_SECONDS = 1.0
"""How long the calls that a transform maps are counted."""
# Fields of the form on a page; the command line has more options.
_FIELDS = ("outcome", "event", "reason", "by", "version", "problem", "mapped_by", "id", "since", "until", "correct")


class Replays:
    """The actions on replays that pages and the API share."""

    def __init__(self, database: Database, processes: ReplayProcesses, make_hooks: HooksFactory) -> None:
        self._database = database
        self._processes = processes
        self._to_hooks = make_hooks

    def preview(self, backend: Backend, replay_request: ReplayRequest) -> Values:
        """Count the calls of a replay, and do a dry run of some. Writes nothing."""
        replayer = self._replayer(backend)
        plan = _plan(replayer, replay_request, None)
        trial = _dry_run_sample(replayer, plan) if plan.left else dataclasses.replace(plan, tally=Tally())
        mapped = replayer.count_mapped(plan, _COUNT_SECONDS) if replay_request.mapped_by else None
        words = to_texts(replay_request)
        with backend.database.reading() as conn:
            problem = _problem_text(conn, words)
        return {
            "plan": plan,
            "sample": trial.tally,
            "effects": _effects(trial),
            "mapped": mapped,
            "words": words,
            "problem": problem,
        }

    def prepare(self, backend: Backend, replay_request: ReplayRequest, attribution: Attribution | None) -> Plan:
        """Return the plan of a replay to begin or to resume."""
        return _plan(self._replayer(backend), replay_request, attribution)

    def start(self, plan: Plan) -> str:
        """Start a process for the plan, unless one runs it already; return the id of the replay.

        Raises:
            Unavailable: no process can be started, or the database cannot be written to.

        """
        now = clock()
        with self._database.writing() as conn:
            lock_replays(conn)
            unfinished = find_unfinished(conn, plan.replay.what)
            if unfinished is not None and to_state(unfinished, now) in {ReplayState.RUNNING, ReplayState.STOPPING}:
                return str(unfinished.id)
            if unfinished is not None and unfinished.id == plan.replay.id:
                mark_running(conn, unfinished.id, now)
            else:
                plan.replay = msgspec.structs.replace(plan.replay, progress_at=now)
                append_plan(conn, plan)
        try:
            self._processes.start(plan.request, None if plan.correction is None else to_attribution(plan.correction))
        except OSError as error:
            with self._database.writing() as conn:
                mark_idle(conn, plan.replay.id)
            raise Unavailable(f"no process could be started for the replay: {error.strerror}") from error
        return str(plan.replay.id)

    def _replayer(self, backend: Backend) -> Replayer:
        # This may run on another thread, and the service's ids are for one thread only.
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
        replay_request = parse_replay_request(pages.localize(read_form(*_FIELDS)))
        return pages.show("replay_ask.html", lambda backend: replays.preview(backend, replay_request))

    @blueprint.post("/replays/start")
    def start() -> Response:
        replay_request, attribution = _split(pages.localize(read_form(*_FIELDS, *ATTRIBUTION)), "page")
        plan = pages.read(lambda backend: replays.prepare(backend, replay_request, attribution))
        return go_to(f"/replays/{replays.start(plan)}")

    @blueprint.get("/replays/<replay_id>")
    def show(replay_id: str) -> Response:
        number = parse_path_id("a replay", replay_id)
        return pages.show("replay.html", lambda backend: _progress(backend, number))

    @blueprint.post("/replays/<replay_id>/stop")
    def stop(replay_id: str) -> Response:
        replays.stop(parse_path_id("a replay", replay_id))
        return go_to(f"/replays/{parse_path_id('a replay', replay_id)}")

    @blueprint.post("/replays/<replay_id>/go-on")
    def go_on(replay_id: str) -> Response:
        number = parse_path_id("a replay", replay_id)

        def prepare(backend: Backend) -> Plan:
            with backend.database.reading() as conn:
                replay_request = to_replay_request(get_replay(conn, number))
            return replays.prepare(backend, replay_request, None)

        return go_to(f"/replays/{replays.start(pages.read(prepare))}")

    return blueprint


def replay_api(pages: Pages, replays: Replays, admin_token: str) -> Blueprint:
    """Return the routes below `/api/v1/replays`."""
    blueprint = api_blueprint("replay_api", admin_token, "/api/v1/replays")

    @blueprint.get("")
    def show_list() -> Response:
        _, before, limit = read_list_parameters()

        def work(backend: Backend) -> object:
            with backend.database.reading() as conn:
                rows = list_progress(conn, clock(), limit + 1, before)
            following = rows[limit - 1].id if len(rows) > limit else None
            return {"replays": [replay.to_document() for replay in rows[:limit]], "next": following}

        return to_json(pages.read(work))

    @blueprint.post("")
    def start() -> Response:
        replay_request, attribution = _split(_json(), "api")
        replay_id = replays.start(pages.read(lambda backend: replays.prepare(backend, replay_request, attribution)))
        return to_json(pages.read(lambda backend: _document(backend, int(replay_id))), 202)

    @blueprint.get("/<replay_id>")
    def show(replay_id: str) -> Response:
        number = parse_path_id("a replay", replay_id)
        return to_json(pages.read(lambda backend: _document(backend, number)))

    @blueprint.post("/<replay_id>/stop")
    def stop(replay_id: str) -> Response:
        number = parse_path_id("a replay", replay_id)
        replays.stop(number)
        return to_json(pages.read(lambda backend: _document(backend, number)))

    return blueprint


def _split(texts: dict[str, str], author: str) -> tuple[ReplayRequest, Attribution | None]:
    """Parse the parameters of a replay, and who makes it: `author`, unless they say so."""
    words = {name: texts.pop(name) for name in ATTRIBUTION if name in texts}
    replay_request = parse_replay_request(texts)
    return replay_request, parse_attribution(words, author, correct=replay_request.correct)


def _plan(replayer: Replayer, replay_request: ReplayRequest, attribution: Attribution | None) -> Plan:
    return replayer.plan(replay_request, parse_bounds(replay_request, clock()), attribution)


def _dry_run_sample(replayer: Replayer, plan: Plan) -> Plan:
    """Do a dry run of 50 calls, and of up to SAMPLE_MAX if these are quick; return the plan with its counts."""
    began = time.perf_counter()
    trial = _dry_run_first(replayer, plan, _SAMPLE_FIRST)
    if plan.left > trial.tally.read and (time.perf_counter() - began) * SAMPLE_MAX / _SAMPLE_FIRST < _SAMPLE_SECONDS:
        return _dry_run_first(replayer, plan, SAMPLE_MAX)
    return trial


def _dry_run_first(replayer: Replayer, plan: Plan, most: int) -> Plan:
    limit = most if plan.request.limit is None else min(most, plan.left)
    replay_request = msgspec.structs.replace(plan.request, limit=limit)
    trial = dataclasses.replace(plan, request=replay_request, tally=Tally(), correction=without_counts(plan.correction))
    replayer.dry_run(trial, lambda _calls: None)
    return trial


def _effects(plan: Plan) -> list[Effect]:
    """Return the first effects of a correction on metrics, those of most events first."""
    if plan.correction is None:
        return []
    return sorted(to_effect(plan.correction).effects, key=lambda row: (row.metric, -row.events, row.month))[:_ROWS]


def _list(backend: Backend) -> Values:
    with backend.database.reading() as conn:
        return {"replays": list_progress(conn, clock(), _LISTED)}


def _progress(backend: Backend, replay_id: int) -> Values:
    with backend.database.reading() as conn:
        progress = get_progress(conn, replay_id, clock())
        return {"replay": progress, "problem": _problem_text(conn, progress.words)}


def _problem_text(conn: Connection, words: dict[str, str]) -> str | None:
    return find_sentence(conn, bytes.fromhex(words["problem"])) if "problem" in words else None


def _document(backend: Backend, replay_id: int) -> object:
    with backend.database.reading() as conn:
        return get_progress(conn, replay_id, clock()).to_document()


def _json() -> dict[str, str]:
    """Return the parameters of a JSON object. Raises BadQuery."""
    document = read_json_object()
    if document is None or not all(isinstance(word, str | int | None) for word in document.values()):
        raise BadQuery(f"the body must be a JSON object with some of {', '.join((*PARAMETERS, *ATTRIBUTION))}")
    params = {name: word for name, word in document.items() if word is not None and word is not False}
    return {name: "yes" if word is True else str(word) for name, word in params.items()}
