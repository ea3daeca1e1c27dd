"""Runs commands one after the other in one process: lists of words come in as JSON, and each end goes out as a line."""

import json
import sys
import traceback

from click.testing import CliRunner

from app.service.commands import main

for _words in json.load(sys.stdin):
    _result = CliRunner().invoke(main, _words)
    _trouble = _result.exc_info if _result.exception and not isinstance(_result.exception, SystemExit) else None
    _end = [_words, _result.exit_code, _result.output, _trouble and traceback.format_exception(*_trouble)]
    sys.stdout.write(json.dumps(_end) + "\n")
