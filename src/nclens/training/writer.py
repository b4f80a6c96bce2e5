"""A background thread that writes files while training continues."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Background:
    """Calls a function in a separate thread, in the order of the calls to `put`.

    At most one call is queued while another runs, and a further `put` blocks, so that memory stays bounded. An error of
    a call is raised by the next `put`, by `finish` or at the end of the `with` block; calls after a failed one are
    dropped.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._calls: queue.Queue[tuple[Any, ...] | None] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="nclens-background", daemon=True)
        self._thread.start()

    def put(self, *arguments: Any) -> None:
        """Queue a call; the arguments must not change afterwards."""
        self._raise()
        self._calls.put(arguments)

    def finish(self) -> None:
        """Wait until every call has returned."""
        self._calls.join()
        self._raise()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait until every call has returned, and end the thread; an error of the block precedes one of a call."""
        self._calls.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def _run(self) -> None:
        while (arguments := self._calls.get()) is not None:
            try:
                if self._error is None:
                    self._function(*arguments)
            except BaseException as error:
                self._error = error
            finally:
                del arguments  # free a written state at once
                self._calls.task_done()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
