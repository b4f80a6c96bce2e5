"""Training on mixed samples: their targets, their loss and their statistics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nclens.data.mixing import Mixer
from nclens.data.tensors import Split
from nclens.models.network import UnfitError
from nclens.training.recipe import BatchLoss
from nclens.training.statistics import batch_statistics


@dataclass(frozen=True)
class Mixed:
    """A batch whose samples are mixed, each with the one before it and the first with the last.

    Attributes:
        inputs: (B, ...), the network's.
        targets: (B, 2), the labels of both samples.
        share: that of the first label, in [0, 1]; the second's is the rest.
    """

    inputs: Tensor
    targets: Tensor
    share: float

    def loss(self, loss: BatchLoss) -> "MixedLoss":
        """Return the loss of such a batch."""
        return MixedLoss(loss, self.share)

    def statistics(self, task: str, outputs: Tensor, targets: Tensor) -> list[Tensor]:
        """Return the batch's statistics, each the mixture of those under either label; see `batch_statistics`.

        Of the cross entropy that is the one with the mixed target, of the error the share of the labels that are not
        predicted.
        """
        both = (batch_statistics(task, outputs, targets[:, place]) for place in (0, 1))
        return [mixture(self.share, *pair) for pair in zip(*both, strict=True)]


class MixedLoss:
    """The loss of mixed targets, share L(z, y) + (1 - share) L(z, y').

    A loss that is linear in the one-hot target has that value at the target share y + (1 - share) y'. So label
    smoothing is the soft-target cross entropy with targets mixed after smoothing, and MaxSup the soft-target cross
    entropy plus alpha (largest logit - mean logit), for what does not depend on the label stays as it is. Squared error
    is (1/2) |z - q|^2 with the mixed target q plus share (1 - share) where the labels differ, which has no gradient. A
    weight of a class is that of its part.
    """

    def __init__(self, loss: BatchLoss, share: float) -> None:
        self._loss, self._share = loss, share

    @property
    def needs(self) -> Sequence[str]:
        """What the loss gets by name."""
        return self._loss.needs

    def __call__(self, logits: Tensor, targets: Tensor, inputs: Tensor, **parts: Tensor) -> Tensor:
        """Return the loss of each sample (B,), or their mean, of logits (B, K) and pairs of labels (B, 2)."""
        first, second = (self._loss(logits, targets[:, place], inputs, **parts) for place in (0, 1))
        return mixture(self._share, first, second)


class Mixing:
    """Mixes the samples and the labels of each batch; the arguments are those of `nclens.data.mixing.Mixer`."""

    def __init__(
        self, mixup: float | None = None, cutmix: float | None = None, switch_probability: float = 0.5
    ) -> None:
        self._mixer = Mixer(mixup, cutmix, switch_probability)

    def check(self, train: Split) -> None:
        """Refuse data whose samples cannot be mixed.

        Raises:
            UnfitError: the targets are no labels of classes, one a sample, or rows would be cut.
        """
        if train.task != "classification":
            raise UnfitError(f"mixup and cutmix mix labels of classes, and the task of the data is {train.task}")
        if self._mixer.cuts and train.inputs.ndim != 4:
            raise UnfitError("cutmix needs images (C, H, W); rows allow only mixup")

    def __call__(self, inputs: Tensor, targets: Tensor, seed: int) -> Mixed:
        """Return a batch with inputs (B, ...) and labels (B,), mixed; the same seed gives the same draws."""
        mixed, share = self._mixer(inputs, seed)
        return Mixed(mixed, torch.stack([targets, targets.roll(1)], dim=1), share)


def mixture(share: float, first: Tensor, second: Tensor) -> Tensor:
    """Return share first + (1 - share) second."""
    return share * first + (1 - share) * second


def once(teacher: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a teacher that runs once for the two losses of a batch, which ask it about the same inputs."""
    last: list[Tensor] = []

    def teach(inputs: Tensor) -> Tensor:
        if not last or last[0] is not inputs:
            last[:] = [inputs, teacher(inputs)]
        return last[1]

    return teach
