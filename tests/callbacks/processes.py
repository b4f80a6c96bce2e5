"""Two processes of one training, as torchrun starts them."""

import socket

from tests.process import Process


def run_two(script, folder):
    """Run a script with the arguments rank, folder and port in two processes at a time; both must end well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    processes = [Process(["-c", script, rank, folder, port]) for rank in (0, 1)]
    said = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
