"""Threads, precision, determinism, memory and device of a process."""

import ctypes
import os

import torch

#: Parameters of `mallopt`, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def configure(threads: int, *, precision: str = "float32", deterministic: bool = False, autotune: bool = False) -> None:
    """Configure PyTorch for the rest of the process.

    Denormal numbers are flushed to zero: they occur in decayed weights and make a CPU many times slower. Freed memory
    is kept for the next allocation.

    Args:
        threads: CPU threads; results depend on their number in the last bits.
        precision: `tf32` lets CUDA round the factors of float32 products to TensorFloat-32 (10 bits of mantissa);
            otherwise float32 is IEEE everywhere, which is not PyTorch's default for convolutions on CUDA.
        deterministic: refuse operations whose result depends on the order of atomic additions, so that CUDA gives the
            same bits every time.
        autotune: let cuDNN time its algorithms and keep the fastest, which may differ between runs; ignored with
            `deterministic`.
    """
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    # `torch.compile` would otherwise start one compiler process per core of the machine.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(threads))
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = autotune and not deterministic
    torch.backends.cudnn.deterministic = not torch.backends.cudnn.benchmark
    if deterministic:
        # cuBLAS reads it at initialisation.
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    if deterministic != torch.are_deterministic_algorithms_enabled():
        # Only where it changes something: the call imports PyTorch's compiler, a second of processor time.
        torch.use_deterministic_algorithms(deterministic)


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next allocation of the process; where it is not glibc, do nothing.

    By default glibc returns blocks as large as a hidden layer to the system. Each training step would get them back as
    new pages, and the page faults cost as much as the arithmetic of normalisation and ReLU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the largest that it accepts
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(wanted: str) -> torch.device:
    """Return the device for `cpu`, `cuda` or `auto` (CUDA if available).

    Raises:
        ValueError: CUDA is requested and not available.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ValueError("training.device is `cuda`, but PyTorch finds no CUDA device; use `auto` or `cpu`")
    return torch.device("cuda" if wanted != "cpu" and available else "cpu")
