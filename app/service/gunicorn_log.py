"""gunicorn's own log lines, in the same format as ours."""

from typing import Any

from gunicorn.glogging import Logger

from app.cli.log_output import configure


class Log(Logger):  # type: ignore[misc]
    """Passes gunicorn's lines to the root logger."""

    def setup(self, cfg: Any) -> None:
        """Use our handlers in place of gunicorn's."""
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), 20)
        configure(cfg.loglevel)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(self.loglevel)
