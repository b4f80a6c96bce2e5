"""Threads, precision, determinism and device of a process."""

import os

import torch

#: Bytes: the size of a block whose release raises the threshold, just below the 32 MiB that glibc allows.
RELEASED = 31 * 2**20


def configure(threads: int, *, precision: str = "float32", deterministic: bool = False, autotune: bool = False) -> None:
    """Configure PyTorch for the rest of the process.

    Denormal numbers are flushed to zero: they occur in decayed weights and make a CPU many times slower.

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
    """Let glibc's allocator keep freed blocks of up to 31 MiB for the next layer instead of returning them.

    It maps large blocks from the operating system and unmaps them when they are freed, so that the outputs of layers
    would lie on new pages in every batch, each page cleared first. Freeing a mapped block raises the threshold of this
    to the block's size, and that of trimming the heap to twice as much (mallopt(3), M_MMAP_THRESHOLD). No page of the
    block is touched. The process keeps up to 62 MiB of freed memory; elsewhere than with glibc nothing changes.
    """
    torch.empty(RELEASED, dtype=torch.uint8)


def choose_device(wanted: str) -> torch.device:
    """Return the device for `cpu`, `cuda` or `auto` (CUDA if available).

    Raises:
        ValueError: CUDA is requested and not available.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ValueError("training.device is `cuda`, but PyTorch finds no CUDA device; use `auto` or `cpu`")
    return torch.device("cuda" if wanted != "cpu" and available else "cpu")
