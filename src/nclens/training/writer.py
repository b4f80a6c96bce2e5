"""Work beside the loop: a thread that writes while training goes on."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Background:
    """Calls one function in a thread of its own, in the order in which the calls were asked for.

    At most one call waits while another runs: whoever asks for a third stands still until there is room, so that memory
    stays bounded. What a call raises is raised again by the next `put`, by `finish` or at the end of the `with` block;
    calls after a failed one are dropped.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._calls: queue.Queue[tuple[Any, ...] | None] = queue.Queue(maxsize=1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="nclens-background", daemon=True)
        self._thread.start()

    def put(self, *arguments: Any) -> None:
        """Ask for a call; the arguments must not change any more."""
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
        """Wait until every call has returned, and end the thread; an error of the block goes before one of a call."""
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
                del arguments  # a written state is not kept until the next one comes
                self._calls.task_done()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
