"""The baseline of single calls: a Flask route that reads the body and returns JSON, and does nothing else.

`gunicorn bare_flask:app`. Its answer is the receipt of one stored call, so that both send the same bytes.
"""

from flask import Flask, request

from app.web.drain import Drain

app = Flask(__name__)
# For our own worker class, which tells the application when it begins to stop.
app.extensions["segment_lotus_drain"] = Drain()


@app.post("/webhooks/segment")
def receive() -> dict[str, int]:
    """Read the body, return JSON."""
    request.get_data()
    return {"received": 1, "stored": 1, "duplicate": 0, "conflict": 0, "ignored": 0, "rejected": 0}


@app.get("/healthz")
def healthz() -> dict[str, str]:
    """Say that it runs."""
    return {"status": "ok"}
