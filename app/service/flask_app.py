"""Assembles the Flask application."""

import os
from functools import partial
from pathlib import Path

from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

from app.calls.api import api
from app.calls.pages import debugger
from app.calls.pages_problems import problem_api, problem_pages
from app.catalog.backend import Backend, connect_backend
from app.cli.log_output import configure
from app.cli.program import tune_garbage_collection
from app.clock import clock
from app.core.mismatch import explain_mismatch
from app.corrections.api import corrections_api
from app.corrections.api_lookalikes import lookalikes_api
from app.corrections.pages import correction_pages
from app.corrections.pages_lookalikes import lookalike_pages
from app.evidence.api import evidence_api
from app.evidence.pages import evidence_pages
from app.forward.api import deliveries_api
from app.forward.api_settle import settlement_api
from app.forward.outbox import find_pause
from app.forward.pages import delivery_pages
from app.forward.pages_call import delivery_panel
from app.forward.pages_settle import settlement_pages
from app.forward.supervisor import WorkerProcess
from app.ingest.http_intake import Endpoint, Intake, shortcut
from app.ingest.http_native import NativeTrack
from app.ingest.http_tracking import Tracking
from app.ingest.http_webhook import Webhook
from app.ingest.refused_requests import RefusedRequests
from app.ingest.sender_watch import SenderWatch
from app.ingest.wrong_path import explain_wrong_path
from app.metrics.api import usage_api
from app.metrics.api_months import months_api
from app.metrics.effect import measure_values
from app.metrics.pages import usage
from app.metrics.pages_call import metrics_panel
from app.metrics.pages_months import month_pages
from app.replay.pages import Replays, replay_api, replay_pages
from app.replay.process import ReplayProcesses
from app.service.build import Service, build, correction_hooks, evidence_hooks, find_counted, replay_hooks
from app.service.health import health
from app.service.help import help_pages
from app.service.ledger_api import ledger_api
from app.service.overview import overview
from app.service.proxy_watch import ProxyWatch
from app.service.secrets import other_secrets, secret_fingerprints
from app.service.setup import acknowledgement, setup
from app.settings import WITH_WORKER, Settings, load_for_serving
from app.store.writer import Turn
from app.transforms.api import transforms_api
from app.transforms.pages import transforms
from app.transforms.pages_editor import editor
from app.transforms.sandboxes import SANDBOXES, Sandboxes
from app.web import errors
from app.web.application import IN_FLIGHT, Application
from app.web.body import Limit
from app.web.deadlines import GAUGE
from app.web.drain import EXTENSION, Drain
from app.web.in_flight import InFlight
from app.web.offload import Offload, OnThisThread, OnThreads
from app.web.pages import Pages, protect
from app.web.parameters import check_address
from app.web.sessions import set_up_sessions
from app.web.sign_in import SignIn
from app.web.sign_in_link_pages import sign_in_link_pages
from app.web.sign_in_pages import sign_in_pages
from app.web.zone import zone_choice


def create_app(service: Service, offload: Offload | None = None) -> Flask:
    """Return the application of a service. `app.extensions[EXTENSION]` is its Drain.

    `offload` runs the reads of the JSON API and the pages: by default in the calling thread, with the service's
    connections.
    """
    app = Application("app.web")
    # No request is redirected to a normalised path: Segment's POST would arrive as an empty GET.
    app.url_map.merge_slashes = False
    drain = app.extensions[EXTENSION] = Drain()
    app.extensions[GAUGE] = service.telemetry.note_connections
    settings = service.settings
    sandboxes = app.extensions[SANDBOXES] = Sandboxes(settings)
    offload = offload or OnThisThread(Backend(database=service.database, catalog=service.catalog))
    set_up_sessions(app, settings.admin_token, offload)
    pages = Pages(offload, settings.time_zone, find_pause if settings.lotus_api_key else None)
    in_flight = app.extensions[IN_FLIGHT] = InFlight(
        settings.max_inflight_bytes, settings.max_body_bytes, service.telemetry.show_in_flight
    )
    intake = _make_intake(service, in_flight, drain)
    webhook = Webhook(intake)
    endpoints: tuple[Endpoint, ...] = (webhook, Tracking(intake), NativeTrack(intake))
    replays = Replays(service.database, ReplayProcesses(settings), replay_hooks)
    for blueprint in (
        *(endpoint.blueprint() for endpoint in endpoints),
        health(service, drain, offload),
        api(offload, settings.admin_token),
        ledger_api(offload, settings.admin_token),
        usage_api(offload, settings.admin_token),
        months_api(offload, settings.admin_token),
        settlement_api(offload, settings.admin_token, measure_values),
        deliveries_api(offload, settings.admin_token),
        corrections_api(offload, settings.admin_token, correction_hooks),
        evidence_api(offload, settings.admin_token, evidence_hooks()),
        lookalikes_api(offload, settings.admin_token, find_counted),
        transforms_api(service.database, settings, offload, sandboxes),
        sign_in_pages(pages, SignIn(settings.admin_token)),
        sign_in_link_pages(pages, settings.admin_token),
        zone_choice(pages.blueprint("zone")),
        overview(pages, service),
        debugger(pages, settings, (metrics_panel, delivery_panel(forwards=bool(settings.lotus_api_key)))),
        delivery_pages(pages, settings),
        settlement_pages(pages, settings),
        editor(pages),
        transforms(pages, sandboxes, settings.transforms_dir),
        usage(pages, settings),
        month_pages(pages),
        problem_pages(pages),
        problem_api(pages, settings.admin_token),
        replay_pages(pages, replays),
        correction_pages(pages, correction_hooks),
        evidence_pages(pages, offload, evidence_hooks()),
        lookalike_pages(pages, correction_hooks, find_counted),
        replay_api(pages, replays, settings.admin_token),
        setup(pages, settings, webhook),
        acknowledgement(pages),
        help_pages(pages),
    ):
        app.register_blueprint(blueprint)

    def hang_up(response: Response) -> Response:
        return drain.hang_up(response, request.environ)

    errors.register(app, lambda error: protect(pages.show_error(error)))
    app.before_request(check_address)
    app.after_request(hang_up)
    app.after_request(errors.keep_private)
    if settings.trusted_proxies:
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count)  # type: ignore[method-assign]
    note_forwarded = None if settings.trusted_proxies else ProxyWatch(service.database).note
    app.wsgi_app = explain_wrong_path(app.wsgi_app, intake.note_refused)  # type: ignore[assignment,method-assign]
    answer = shortcut(app.wsgi_app, endpoints, drain, note_forwarded)
    app.wsgi_app = answer  # type: ignore[assignment,method-assign]
    return app


def _make_intake(service: Service, in_flight: InFlight, drain: Drain) -> Intake:
    settings = service.settings
    refused = RefusedRequests(
        service.database,
        service.ids,
        clock,
        trusted_proxies=settings.trusted_proxies,
        diagnose=partial(_diagnose, settings),
    )
    sender_watch = SenderWatch(service.database, clock, secret_fingerprints(settings))
    return Intake(
        service.ingest,
        Limit(settings.max_body_bytes, "MAX_BODY_BYTES"),
        refused,
        in_flight,
        drain,
        note_arrival=sender_watch.note,
        time_request=service.telemetry.time_request,
        count_refused=service.telemetry.count_refused,
    )


def _diagnose(settings: Settings, body: bytes, signature: str) -> str | None:
    """Return why a signature does not match, in steps between which other requests run."""
    return explain_mismatch(
        body, signature, settings.segment_shared_secrets, list(other_secrets(settings)), Turn().checkpoint
    )


def serve() -> Flask:
    """Return the application for gunicorn, built from the environment and `.env`. Called in each worker."""
    settings = load_for_serving(os.environ, Path(".env"))
    configure(settings.log_level)
    service = build(settings)
    app = create_app(
        service, OnThreads(partial(connect_backend, settings.database_url, settings.pseudonym_key, serving=True))
    )
    service.watcher.watch()
    service.metric_watcher.watch()
    service.folding.start()
    if WITH_WORKER in os.environ:
        # In the folder that gunicorn's first process creates for all workers, and removes.
        lock = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]) / "worker.lock"
        WorkerProcess(settings, app.extensions[EXTENSION], lock).keep()
    tune_garbage_collection()
    return app
