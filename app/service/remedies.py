"""What to do about each refused request, for the setup page and `doctor`."""

from app.core.native import ROUTE
from app.core.tracking import PREFIX
from app.ingest.sender import WEBHOOK_PATH
from app.store.refusals import Refusal

REMEDIES = {
    "wrong_path": (
        f"Segment reaches this service, at another path than the webhook's. Correct the URL in the mapping: it ends in"
        f" {WEBHOOK_PATH}, in lower case and with nothing after it."
    ),
    "signature_mismatch": (
        "The shared secret in Segment differs from SEGMENT_SHARED_SECRETS here. Copy it again from step 2 into the"
        " destination's Shared Secret, without spaces around it. A proxy that changes the body causes the same error."
    ),
    "signature_missing": (
        "The destination in Segment has no shared secret, so it does not sign. Copy it from step 2; a test from a"
        " browser or with curl needs the header X-Signature as well."
    ),
    "unauthorized": (
        "The mapping in Segment sends, under Headers, an Authorization that is not accepted here. Remove it, or add its"
        " token to SEGMENT_BEARER_TOKENS (or SEGMENT_BASIC_AUTH) here."
    ),
    "batch_not_fully_authenticated": (
        "Segment signs only the first call of a batch, and SEGMENT_REQUIRE_FULL_AUTH is set here. Add Authorization"
        " with one of SEGMENT_BEARER_TOKENS under Headers in the mapping, or turn its batching off."
    ),
    "too_large": (
        "One request was larger than MAX_BODY_BYTES. Set a smaller Batch Size in Segment's mapping (1,000 by default,"
        " 4,000 at most: 4,000 calls above 4 KB are more than 16 MB), or a larger limit here."
    ),
    "unparsable_json": (
        "The body was not JSON. In Segment's mapping leave Data at the whole event ($event), and let nothing on the way"
        " change it."
    ),
    "unavailable": (
        "It could not be stored at that moment. Segment retries for four hours; if the error persists, see /readyz and"
        " the service log."
    ),
}
"""What to do about each code of a refused request."""

TRACKING_REMEDIES = {
    "wrong_path": (
        f"Segment reaches this service, at another path than the webhook's. Correct the URL in the mapping: it ends in"
        f" {WEBHOOK_PATH}, in lower case and with nothing after it."
    ),
    "unauthorized": (
        "The SDK's write key is not in SEGMENT_WRITE_KEYS here. You choose its text: put the same one into the setting"
        " and into the SDK, and restart."
    ),
    "too_large": (
        "As at Segment, a call may have 32 KB and a batch 500 KB (or MAX_BODY_BYTES, if that is less). Let the SDK"
        " send smaller batches: its option is called flushAt, or upload_size."
    ),
    "unparsable_json": "The body was not JSON. Let nothing on the way between the SDK and this service change it.",
}
"""The same for requests to Segment's tracking API."""

NATIVE_REMEDIES = {
    "wrong_path": (
        f"Segment reaches this service, at another path than the webhook's. Correct the URL in the mapping: it ends in"
        f" {WEBHOOK_PATH}, in lower case and with nothing after it."
    ),
    "unauthorized": (
        "The client's API key is not in LOTUS_INGEST_KEYS here. You choose its text: put the same one into the setting"
        " and into the client, and restart."
    ),
    "unparsable_json": "The body was not JSON. Let nothing on the way between the client and this service change it.",
}
"""The same for requests to Lotus's track API."""

_NATIVE_PATHS = {ROUTE, ROUTE.rstrip("/")}
_OTHERWISE = "The message says what is wrong; the service log has more."


def find_remedy(refusal: Refusal) -> str:
    """Return what to do about a refused request."""
    code, path = refusal.code, refusal.path
    own = TRACKING_REMEDIES if path.startswith(PREFIX) else NATIVE_REMEDIES if path in _NATIVE_PATHS else {}
    return own.get(code) or REMEDIES.get(code, _OTHERWISE)
