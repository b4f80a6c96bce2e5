"""Precision and determinism of a process."""

import os
import platform
import resource

import pytest
import torch

from nclens.training.runtime import configure


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is configured")
def test_freed_memory_is_kept_for_the_next_step():
    configure(1)
    side = 2**20

    def step():
        return [torch.ones(side) for _ in range(8)]  # 4 MiB each, 1,024 pages

    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        step()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 8 * 1024
