"""How a process computes: threads, precision, determinism; and what it says when the machine cannot."""

import contextlib
import os
from collections.abc import Iterator

import torch


def configure(threads: int, *, precision: str = "float32", deterministic: bool = False, autotune: bool = False) -> None:
    """Set PyTorch up for the rest of the process.

    Denormal numbers are flushed to zero: they appear in trained-out weights and make a CPU many times slower.

    Args:
        threads: CPU threads; another number gives other bits.
        precision: `tf32` lets CUDA round the factors of float32 products to TensorFloat-32 (10 bits of mantissa);
            otherwise float32 is IEEE's everywhere, which is not PyTorch's default for convolutions on CUDA.
        deterministic: refuse operations whose result depends on the order of atomic additions; the same bits on CUDA.
        autotune: let cuDNN try its algorithms and keep the fastest, which may be another one the next time; not where
            `deterministic` is asked for.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    # What `torch.compile` would start beside the job: one compiler a thread, not one a core of the machine.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(threads))
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = autotune and not deterministic
    torch.backends.cudnn.deterministic = not torch.backends.cudnn.benchmark
    if deterministic:
        # cuBLAS reads it when it starts.
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(deterministic)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what PyTorch says where an option asks for too much into one message.

    Raises:
        OSError: `compile` is asked for and this machine cannot compile.
        ValueError: `deterministic` is asked for, and the network has an operation that is not.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "does not have a deterministic implementation" in text:
            message = f"training.deterministic is true, but {text.split(' does')[0]} has no deterministic form"
            raise ValueError(f"{message}; set it to false, or choose another model") from error
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = next((line for line in reversed(text.splitlines()) if "Error" in line or "ompiler" in line), text)
        raise OSError(
            "training.compile is true, but PyTorch cannot compile the network on this machine; on a CPU it needs a C++ "
            f"compiler (g++, or what the variable CXX names). Install one, or set it to false. It says: {reason}"
        ) from error
