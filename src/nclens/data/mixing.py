"""Mixup and CutMix of a batch's inputs, by torchvision."""

import importlib
from typing import Any

import torch
from torch import Tensor

from nclens._torchvision import import_torchvision


class Mixer:
    """Mixes each sample of a batch with the one before it, by `MixUp` or `CutMix` of `torchvision.transforms.v2`.

    Mixup (arXiv 1710.09412): share x + (1 - share) x', one share a batch, drawn from Beta(alpha, alpha). CutMix (arXiv
    1905.04899): a rectangle of x is that of x'. Its area is 1 - lambda of the image's, lambda drawn from Beta(alpha,
    alpha), its centre a random pixel, and it is cut at the border; the share is that of the pixels that remain.

    Attributes:
        cuts: whether there is CutMix, which takes images alone.
    """

    def __init__(
        self, mixup: float | None = None, cutmix: float | None = None, switch_probability: float = 0.5
    ) -> None:
        """Prepare the transforms.

        Args:
            mixup: alpha of mixup, in [0.01, 1000]; None for none.
            cutmix: alpha of CutMix, likewise; at least one of the two is given.
            switch_probability: probability of CutMix for a batch where there are both.
        """
        import_torchvision()
        v2 = importlib.import_module("torchvision.transforms.v2")
        self._mixup = None if mixup is None else v2.MixUp(alpha=float(mixup))
        self._cutmix = None if cutmix is None else v2.CutMix(alpha=float(cutmix))
        self._probability, self.cuts = switch_probability, cutmix is not None

    def __call__(self, inputs: Tensor, seed: int) -> tuple[Tensor, float]:
        """Return a batch's mixed inputs, and the share in [0, 1] of each sample itself in them.

        The draws are the transforms' own, from PyTorch's global generator on the CPU. It is seeded for each batch and
        put back afterwards: they neither depend on what random layers draw nor change it.

        Args:
            inputs: (B, C, H, W), or rows (B, F) where there is mixup alone.
            seed: of the draws.
        """
        # The transforms take images; a row is one of a single channel and line.
        images = inputs if inputs.ndim == 4 else inputs[:, None, None, :]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            transform, key = self._chosen()
            # Not `transform(images, labels)`: it mixes one-hot labels, and of these no loss could tell the share.
            drawn = transform.make_params([images])
        mixed = transform.transform(images, {**drawn, "labels": None, "batch_size": len(images)})
        return mixed.reshape(inputs.shape) if inputs.ndim == 2 else mixed, drawn[key]

    def _chosen(self) -> tuple[Any, str]:
        """Return the transform of a batch, and what its parameters call the share."""
        cuts = self.cuts
        if cuts and self._mixup is not None:
            cuts = float(torch.rand(())) < self._probability
        return (self._cutmix, "lam_adjusted") if cuts else (self._mixup, "lam")
