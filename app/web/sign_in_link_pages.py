"""The pages of a one-time sign-in link, see app.web.sign_in_link."""

from flask import Blueprint, Response, request

from app.catalog.backend import Backend
from app.clock import clock
from app.errors import Forbidden
from app.store.nodes import spend_link
from app.web.application import body_limit
from app.web.body import Limit
from app.web.pages import Pages, protect
from app.web.peer import is_on_this_machine
from app.web.sessions import begin_session
from app.web.sign_in import go_to
from app.web.sign_in_link import LIFETIME_MINUTES, PATH, SignInLink, find_link

_KEY_MAX = 200
_FORM = Limit(1 << 10, "the limit of this form")
_START = "/setup"


def sign_in_link_pages(pages: Pages, admin_token: str) -> Blueprint:
    """Return the routes of a link: a page with a button, and what the button does."""
    blueprint = Blueprint("sign_in_link_pages", __name__)
    blueprint.before_request(_require_this_machine)
    blueprint.after_request(protect)
    blueprint.register_error_handler(Exception, pages.show_error)

    # A GET, such as a preview of the link, spends nothing.
    @blueprint.get(PATH)
    def show() -> Response:
        return pages.show("sign_in_link.html", key=request.args.get("key", "")[:_KEY_MAX])

    # No CSRF token: the key of the link is the secret that no foreign page knows.
    @blueprint.post(PATH)
    @body_limit(_FORM)
    def follow() -> Response:
        link, now = find_link(admin_token, request.form.get("key", "")[:_KEY_MAX]), clock()
        if link is None:
            wrong = "This link is none of this service: it is incomplete, or ADMIN_TOKEN has changed since."
        elif link.expires_at <= now:
            wrong = f"This link is older than {LIFETIME_MINUTES} minutes. The service shows a new one when it starts."
        elif not _spend(pages, link, now):
            wrong = "This link was used before. The service shows a new one when it starts."
        else:
            begin_session()
            return go_to(_START)
        return pages.show("sign_in.html", status=401, next=_START, wrong=wrong)

    return blueprint


def _spend(pages: Pages, link: SignInLink, now: int) -> bool:
    """Tell whether this is the first use of a link, on any node. Raises Unavailable."""

    def work(backend: Backend) -> bool:
        with backend.database.writing() as conn:
            return spend_link(conn, link.id, link.expires_at, now)

    return bool(pages.read(work))


def _require_this_machine() -> None:
    if not is_on_this_machine(request.environ):
        raise Forbidden("a sign-in link works only in a browser on the machine of the service")
