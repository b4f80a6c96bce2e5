"""Several processes that train together, as forks of a test."""

import multiprocessing
import os
import socket
import tempfile
import traceback
from pathlib import Path

import torch

from nclens.training.parallel import Processes


def several(count, function, *arguments):
    """Return what `function(processes, *arguments)` returns in each of some processes that gloo connects, by rank."""
    context = multiprocessing.get_context("fork")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        started = [
            context.Process(target=_run, args=(rank, count, port, Path(folder), function, arguments))
            for rank in range(count)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join()
        failed = [path.read_text() for path in sorted(Path(folder).glob("*.txt"))]
        assert not failed, "\n".join(failed)
        assert [process.exitcode for process in started] == [0] * count
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(count)]


def _run(rank, count, port, folder, function, arguments):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    try:
        processes = Processes(torch.device("cpu"))
        torch.save(function(processes, *arguments), folder / f"{rank}.pt")
        processes.close()
    except BaseException:
        (folder / f"{rank}.txt").write_text(f"rank {rank}: {traceback.format_exc()}")
        os._exit(1)
    os._exit(0)
