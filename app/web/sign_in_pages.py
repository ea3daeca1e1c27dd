"""The pages to sign in and out."""

from flask import Blueprint, Response, request

from app.errors import TooManyAttempts
from app.web.application import body_limit
from app.web.body import Limit
from app.web.pages import Pages, protect
from app.web.sessions import check_csrf, end_session, require_session
from app.web.sign_in import SignIn, go_to, to_return_path

_TOKEN_MAX = 1000
_FORM = Limit(4 << 10, "the limit of this form")
"""Small, since anybody may send it: three bytes per character of the token, percent-encoded, and the page to go to."""


def sign_in_pages(pages: Pages, gate: SignIn) -> Blueprint:
    """Return the routes to sign in and out."""
    blueprint = Blueprint("sign_in_pages", __name__)
    blueprint.after_request(protect)
    blueprint.register_error_handler(Exception, pages.show_error)

    @blueprint.get("/sign-in")
    def form() -> Response:
        return pages.show("sign_in.html", next=to_return_path(request.args.get("next", "/")), wrong=None)

    # No CSRF token: without a session there is nothing that a foreign page could misuse.
    @blueprint.post("/sign-in")
    @body_limit(_FORM)
    def sign_in() -> Response:
        place = request.form.get("next", "/")
        try:
            if gate.sign_in(request.form.get("token", "")[:_TOKEN_MAX]):
                return go_to(place)
            wrong, status = "This is not the admin token.", 401
        except TooManyAttempts as error:
            wrong, status = error.message, 429
        return pages.show("sign_in.html", status=status, next=place, wrong=wrong)

    @blueprint.post("/sign-out")
    @body_limit(_FORM)
    def sign_out() -> Response:
        require_session()
        check_csrf(request)
        end_session()
        return go_to("/sign-in")

    return blueprint
