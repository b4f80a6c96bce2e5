"""What a process computes with, and what it says when the machine cannot."""

import os

import pytest
import torch

from nclens.numerics import configure, explained


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


def test_float32_is_ieee_unless_tf32_is_asked_for():
    configure(1)
    assert state() == (False, "highest", False, True)
    configure(1, precision="tf32", autotune=True)
    assert state() == (True, "high", True, False)
    configure(1, precision="bf16", autotune=True)
    assert state() == (False, "highest", True, False)


def test_deterministic_leaves_nothing_to_chance():
    configure(1, deterministic=True, autotune=True)
    assert state()[2:] == (False, True)
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    configure(1)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"),
            MemoryError,
            r"GPU memory with batch_size = 64.*bf16",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError, "out of memory with batch_size = 64"),
        (RuntimeError("kthvalue CUDA does not have a deterministic implementation, but"), ValueError, "kthvalue CUDA"),
        (RuntimeError("shapes do not match"), RuntimeError, "^shapes do not match$"),
    ],
)
def test_what_the_user_can_change_is_said_in_one_message(error, kind, words):
    with pytest.raises(kind, match=words) as caught, explained(64):
        raise error
    assert "\n" not in str(caught.value)


def test_where_nothing_is_trained_the_batch_is_not_named():
    with pytest.raises(MemoryError, match=r"^out of memory: let fewer"), explained():
        raise RuntimeError("can't allocate memory")


def test_memory_that_is_not_there_is_told_by_pytorch_as_expected():
    with pytest.raises(MemoryError, match="out of memory with batch_size = 7"), explained(7):
        torch.empty(2**58, dtype=torch.uint8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_operation_without_a_deterministic_form_is_named_on_cuda():
    configure(1, deterministic=True)
    with pytest.raises(ValueError, match="deterministic is true, but"), explained(7):
        torch.rand(4, 4, 4, device="cuda").kthvalue(2)
