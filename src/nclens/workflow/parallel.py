"""Work shared among forked processes, which have everything that was loaded before them."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

Result = TypeVar("Result")


def results(function: Callable[[int], Result], count: int, threads: int) -> Iterator[tuple[int, Result]]:
    """Yield (i, function(i)) for every i below `count`, as they are ready.

    Processes are forked, so neither the function nor what it uses needs to be sent to them; its results are pickled.
    All but the first run at a low priority: they take cores that are idle, whoever else uses the machine. With one
    thread, or elsewhere than on Linux, where a fork is not safe, this process does the work in order. No process
    outlives the iteration.

    Raises:
        Exception: what the function raised for the smallest i that fails; nothing is started after a failure.
        ChildProcessError: a process was killed; says how.
    """
    workers = min(threads, count)
    if workers < 2 or sys.platform != "linux":
        yield from ((index, function(index)) for index in range(count))
        return
    with _forked(function, count, workers) as readers:
        failures: dict[int, BaseException] = {}
        while readers:
            for reader in wait(list(readers)):
                assert isinstance(reader, Connection)
                try:
                    index, error, result = reader.recv()
                except EOFError:
                    process = readers.pop(reader)
                    process.join()
                    if process.exitcode:
                        raise ChildProcessError(
                            f"one of {workers} processes was killed (exit code {process.exitcode}); where memory is "
                            "short, use fewer threads"
                        ) from None
                    continue
                if error is None:
                    yield index, result
                else:
                    failures[index] = error
        if failures:
            raise failures[min(failures)]


@contextlib.contextmanager
def _forked(function: Callable[[int], Any], count: int, workers: int) -> Iterator[dict[Connection, Any]]:
    """Start the processes, yield the ends of their pipes, and end them with the block, whatever ends that."""
    context = multiprocessing.get_context("fork")
    following = context.Value("q", 0)
    readers: dict[Connection, Any] = {}
    with _ended_by_exception():
        try:
            for place in range(workers):
                reader, writer = context.Pipe(duplex=False)
                arguments = (function, count, following, writer, [*readers, reader], place > 0)
                process = context.Process(target=_work, args=arguments, daemon=True)
                readers[reader] = process
                process.start()
                writer.close()
            yield readers
        finally:
            for process in list(readers.values()):
                if process.pid is not None:
                    process.kill()
                    process.join()


def _work(
    function: Callable[[int], Any],
    count: int,
    following: Any,
    writer: Connection,
    inherited: list[Connection],
    waits: bool,
) -> None:
    """Take the next number until none is left or one has failed; send what the function says of each."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    for reader in inherited:
        reader.close()  # else no process would notice that the one that reads has been killed
    if waits:
        os.nice(10)
    answer: tuple[int, Exception | None, Any]
    while True:
        with following.get_lock():
            index = following.value
            following.value += 1
        if index >= count:
            return
        try:
            answer = (index, None, function(index))
        except Exception as error:
            error.add_note("".join(traceback.format_exception(error)))
            answer = (index, error, None)
            with following.get_lock():
                following.value = count
        try:
            writer.send(answer)
        except BrokenPipeError:  # nobody reads it
            os._exit(1)


@contextlib.contextmanager
def _ended_by_exception() -> Iterator[None]:
    """Let SIGTERM raise SystemExit, so that what the block started is ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
