"""A live view of a running study in the terminal, for Snakemake: `logger: nclens` in a profile.

Snakemake's own handler stays. While the view is up, it and the jobs print to a file beside Snakemake's log, because
file descriptors 1 and 2 point there; the view draws on a copy of the terminal's. Without a terminal, in a dry run, and
with an option that chooses what is printed, there is no view and all is printed as without this package.
"""

import atexit
import copy
import datetime
import os
import sys
from logging import WARNING, LogRecord
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_nclens.state import Study

if TYPE_CHECKING:
    from snakemake_logger_plugin_nclens.screen import Screen

__all__ = ["LogHandler", "view"]

#: What Snakemake reports without an event, and a person should see.
ANNOUNCED = ("Shutting down", "Terminating processes", "Trying to restart", "Will exit after")


class LogHandler(LogHandlerBase):
    """Follows what Snakemake reports, and shows it between `begin` and `end`, which the Snakefile calls."""

    def __post_init__(self) -> None:
        self._study = Study()
        self._screen: Screen | None = None
        self._saved: dict[int, int] = {}

    @property
    def writes_to_stream(self) -> bool:
        """Snakemake's own handler still prints."""
        return False

    @property
    def writes_to_file(self) -> bool:
        """Snakemake itself writes its log."""
        return False

    @property
    def has_filter(self) -> bool:
        """Snakemake's own, so that its options hold."""
        return False

    @property
    def has_formatter(self) -> bool:
        """Snakemake's own: an error reads as everywhere."""
        return False

    @property
    def needs_rulegraph(self) -> bool:
        """The view needs none."""
        return False

    def emit(self, record: LogRecord) -> None:
        """Follow a record; while the view is up, print errors and warnings above it."""
        try:
            self._study.take(record)
            if self._screen is not None and _is_for_people(record):
                self._screen.say(self.format(_shortened(record)), error=record.levelno > WARNING)
        except Exception:
            self.handleError(record)

    def begin(self) -> None:
        """Show the view, where there is a terminal to show it in."""
        if self._screen is not None or not self._is_wanted():
            return
        from snakemake_logger_plugin_nclens.screen import Screen

        terminal = os.dup(2)
        self._screen = Screen(self._study, terminal, self.common_settings.nocolor)
        self._redirect()
        self._screen.start()
        atexit.register(self.end)

    def end(self) -> None:
        """Take the view down, let others print again, and leave one line of summary."""
        screen, self._screen = self._screen, None
        if screen is None:
            return
        screen.stop()
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, kept in self._saved.items():
            os.dup2(kept, descriptor)
            os.close(kept)
        self._saved = {}
        atexit.unregister(self.end)

    def close(self) -> None:
        """End with Snakemake, however it ends."""
        self.end()
        super().close()

    def _is_wanted(self) -> bool:
        settings = self.common_settings
        quiet = {str(getattr(choice, "name", choice)).lower() for choice in settings.quiet or ()}
        chosen = settings.dryrun or settings.verbose or settings.printshellcmds or settings.debug_dag
        plain = chosen or quiet & {"all", "progress", "rules"} or os.environ.get("TERM", "dumb") == "dumb"
        return not plain and os.isatty(2)

    def _redirect(self) -> None:
        """Point what Snakemake and its jobs print in this terminal to a file."""
        name = datetime.datetime.now().isoformat().replace(":", "") + ".terminal.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            file = os.open(Path(".snakemake", "log", name), flags, 0o666)
        except OSError:
            file = os.open(os.devnull, flags)
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor in filter(os.isatty, (1, 2)):
            self._saved[descriptor] = os.dup(descriptor)
            os.dup2(file, descriptor)
        os.close(file)


def view(manager: Any, step: str) -> None:
    """Let the view `begin` or `end`, for the Snakefile's hooks; without this logger, do nothing.

    Args:
        manager: Snakemake's `workflow.logger_manager`.
        step: `begin` or `end`.
    """
    if listener := manager.queue_listener:
        listener.queue.join()  # what was logged before has arrived
        for handler in listener.handlers:
            if isinstance(handler, LogHandler):
                getattr(handler, step)()


def _is_for_people(record: LogRecord) -> bool:
    event = getattr(record, "event", None)
    if record.levelno >= WARNING or event in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR, LogEvent.ERROR):
        return True
    return event is None and str(record.msg).startswith(ANNOUNCED)


def _shortened(record: LogRecord) -> LogRecord:
    """Leave out what fills a screen: the files and the command of a job that failed; its log says what happened."""
    if getattr(record, "event", None) != LogEvent.JOB_ERROR:
        return record
    record = copy.copy(record)
    record.__dict__ |= {"input": [], "output": [], "shellcmd": None}
    return record
