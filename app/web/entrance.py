"""The pages that are there before anybody is signed in."""

from flask import Blueprint, Response, request

from app.errors import TooManyAttempts
from app.web.application import body_limit
from app.web.body import Limit
from app.web.pages import Pages, protect
from app.web.sessions import check_csrf, end_session, require_session
from app.web.sign_in import SignIn, go_to, to_way_back

_TOKEN_MAX = 1000
_FORM = Limit(4 << 10, "the most that this form takes")
"""Anybody may send it. Of the token three bytes for each character, percent-encoded, and the place to go on to."""


def sign_in_pages(pages: Pages, gate: SignIn) -> Blueprint:
    """Return the routes to sign in and out."""
    blueprint = Blueprint("sign_in_pages", __name__)
    blueprint.after_request(protect)
    blueprint.register_error_handler(Exception, pages.show_error)

    @blueprint.get("/sign-in")
    def form() -> Response:
        return pages.show("sign_in.html", next=to_way_back(request.args.get("next", "/")), wrong=None)

    # Without a session there is nothing that a foreign page could misuse: a token it knows would be its own.
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
    def leave() -> Response:
        require_session()
        check_csrf(request)
        end_session()
        return go_to("/sign-in")

    return blueprint
