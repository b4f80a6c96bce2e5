"""Features of your own training loop, recorded for an experiment of networks already trained."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nclens._inputs import Array, as_integer, as_tensor
from nclens.metrics.collapse import check_float64, check_samples

Split = tuple[Array, Array]
"""Features (N, d) and labels (N,)."""


class Recorder:
    """Writes the features, labels and head of each epoch of one run, for an experiment of kind `imported`.

    `log` writes FOLDER/LOSS/seedSEED/epochEPOCH.npz, whole or not at all, with these arrays:

    | array | shape | type |
    |---|---|---|
    | `train_features`, `test_features` | (N, d) of each split | float32 |
    | `train_labels`, `test_labels` | (N,) | int64, in [0, K) |
    | `weight` | (K, d) | float32 |
    | `bias` | (K,); absent where the head has none | float32 |

    The features must be those of the network in evaluation mode, in the same order at each epoch; `Watch.collect` of a
    loader that does not shuffle returns them. In several processes, log in one, with all samples.

    Args:
        folder: where to write; made when it is needed.
        loss: the run's loss, a name of letters, digits and `_ . + -` that starts with a letter.
        seed: the run's seed, 0 or more.

    Raises:
        ValueError: another name or seed.
    """

    def __init__(self, folder: str | Path, *, loss: str, seed: int) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.+-]{0,63}", loss):
            raise ValueError(f"loss: expected a letter and at most 63 letters, digits and _ . + -, got {loss!r}")
        self.folder = Path(folder) / loss / f"seed{as_integer('seed', seed, 0)}"

    def log(self, epoch: int, *, train: Split, test: Split, head: nn.Module) -> Path:
        """Write the file of one epoch, over one that is there, and return its path.

        Args:
            epoch: the number of epochs trained, 0 or more.
            train: features (N, d), any floating dtype, and labels (N,), of the training split; tensors or NumPy arrays.
            test: the same of the test split.
            head: the layer that returns the logits, z = W h + b.

        Raises:
            ValueError: a wrong type, shape or label, or a value that is not finite.
            OSError: the file cannot be written.
        """
        weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
        if not isinstance(weight, Tensor) or weight.ndim != 2:
            raise ValueError(f"head: expected a layer with a weight (K, d), got {type(head).__name__}")
        arrays = {"weight": _float32("weight", weight, (None, None))}
        if bias is not None:
            arrays["bias"] = _float32("bias", bias, (len(weight),))
        for split, given in {"train": train, "test": test}.items():
            if not isinstance(given, tuple | list) or len(given) != 2:
                raise ValueError(f"{split}: expected (features, labels), got {type(given).__name__}")
            try:
                features, labels = check_samples(*given, len(weight))
                arrays[f"{split}_features"] = _float32("features", features, (None, weight.shape[1]))
            except ValueError as error:
                raise ValueError(f"{split}: {error}") from None
            arrays[f"{split}_labels"] = labels.cpu().numpy()
        path = self.folder / f"epoch{as_integer('epoch', epoch, 0)}.npz"
        with _replaced(path) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]  # its other arguments have other names
        return path


def _float32(name: str, values: Array, shape: tuple[int | None, ...]) -> NDArray[np.float32]:
    """Return values as float32, which must hold them."""
    tensor = as_tensor(name, values)
    found = check_float64(name, tensor, shape, tensor).float().cpu()
    if not bool(found.isfinite().all()):
        raise ValueError(f"{name}: a value exceeds float32")
    return found.numpy()


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which gets its name if nothing fails: a reader never sees a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name may be as long as a file system allows: this one is longer.
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part.npz", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)  # mkstemp makes private files
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
