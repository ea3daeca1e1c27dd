"""Puts the Flask application together."""

import gc
import os
from pathlib import Path

from flask import Flask

from app.bootstrap import Reading, Service, build, build_reading, clock
from app.logs import configure
from app.settings import load_for_serving
from app.web import errors
from app.web.api import api
from app.web.body import InFlight
from app.web.draining import EXTENSION, Draining
from app.web.health import health
from app.web.offload import Offload, OnThisThread, OnThreads
from app.web.refused import Refused
from app.web.webhook import Webhook


def create_app(service: Service, offload: Offload | None = None) -> Flask:
    """Return the application over a service. `app.extensions[EXTENSION]` is its Draining.

    `offload` runs the reads of the JSON API: by default on the spot, through the connections of the service.
    """
    app = Flask("app.web", static_folder=None)
    # No request is ever redirected to a prettier spelling of its path: Segment's POST would arrive as an empty GET.
    app.url_map.merge_slashes = False
    draining = app.extensions[EXTENSION] = Draining()
    refused = Refused(service.database, service.ids, clock)
    in_flight = InFlight(service.settings.max_inflight_bytes)
    webhook = Webhook(service, refused, in_flight, draining)
    app.register_blueprint(webhook.blueprint())
    app.wsgi_app = webhook.before(app.wsgi_app)  # type: ignore[assignment,method-assign]
    app.register_blueprint(health(service, draining))
    offload = offload or OnThisThread(Reading(database=service.database, catalog=service.catalog))
    app.register_blueprint(api(offload, service.settings.admin_token))
    errors.register(app)

    app.after_request(draining.hang_up)
    return app


def serve() -> Flask:
    """Return the application for gunicorn, built from the environment and `.env`. Called in each worker."""
    settings = load_for_serving(os.environ, Path(".env"))
    configure(settings.log_level)
    service = build(settings)
    app = create_app(service, OnThreads(lambda: build_reading(settings)))
    service.watcher.watch()
    _tune_garbage_collection()
    return app


def _tune_garbage_collection() -> None:
    """Look for garbage rarely, and never among what was there at the start.

    Calls are trees of small objects that die by reference counting; Python's defaults look through all of them every
    700 objects. Measured: parsing and mapping a call of 1 KB takes 35 us with the defaults and 21 us like this.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
