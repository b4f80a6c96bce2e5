"""Precision and determinism of a process."""

import os
import platform
import resource

import pytest
import torch

from nclens.training.runtime import configure, keep_freed_memory


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    yield
    cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(False)


def state():
    cudnn = torch.backends.cudnn
    return cudnn.allow_tf32, torch.get_float32_matmul_precision(), cudnn.benchmark, cudnn.deterministic


def test_float32_is_ieee_without_tf32():
    configure(1)
    assert state() == (False, "highest", False, True)
    configure(1, precision="tf32", autotune=True)
    assert state() == (True, "high", True, False)
    configure(1, precision="bf16", autotune=True)
    assert state() == (False, "highest", True, False)


def test_deterministic_settings():
    configure(1, deterministic=True, autotune=True)
    assert state()[2:] == (False, True)
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    configure(1)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_is_used_again():
    """Blocks of 4 MiB as layers make them: without it, the first loop takes a new page at every 4 KiB of each."""

    def new_pages():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        layers = [torch.ones(2**20) for _ in range(6)]
        del layers
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    keep_freed_memory()
    assert sorted(new_pages() for _ in range(5))[2] < 2**22 / resource.getpagesize()
