"""A cosine head, z = s cos(w, h), as a linear head without bias on features of length 1."""

import math

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from nclens.models.network import Network


def _normalised(features: Tensor) -> Tensor:
    # oneDNN's own memory layout, in which `nclens.training.passes` runs a backbone, has no norm.
    dense = features.to_dense() if features.is_mkldnn else features
    # At least float32, behind a backbone in bfloat16 too, whose norms would be off by 0.4%.
    return functional.normalize(dense.to(torch.promote_types(dense.dtype, torch.float32)), dim=1)


# Not traced into: its branch depends on the layout, and `nclens.models.folding` traces a backbone.
fx.wrap("_normalised")


class UnitLength(nn.Module):
    """Features h (N, d) divided by their norms, h / |h|; 0 stays 0."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the features (N, d), each of length 1."""
        return _normalised(features)


class ScaledRows(nn.Module):
    """The weight that a cosine head uses: s w / |w| of each row w, as a parametrisation of `torch.nn.utils`."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """Return the rows (K, d), each of length s."""
        return self.scale * functional.normalize(weight, dim=1)

    def extra_repr(self) -> str:
        """Return the scale, for the text of a network."""
        return f"scale={self.scale:g}"


class CosineHead(nn.Module):
    """A cosine head: logits z_k = s cos(w_k, h) = W h' with h' = h / |h| and W = s w / |w|, without a bias.

    The linear layer `linear` gets h', and its `weight` is W: it is the head that `nclens.models.split_at_head` and
    `nclens.watch` find, so that all that is measured is measured on h' and W, which the logits are made of. The weights
    that are trained are w, `linear.parametrizations.weight.original`.

    Args:
        dim: d, of the features h.
        outputs: K.
        scale: s > 0, the largest logit. Cross entropy cannot become small under a small one: with K classes and
            collapsed features it is log(1 + (K - 1) exp(-s K / (K - 1))).

    Raises:
        ValueError: the scale is not a positive, finite number.

    Source: NormFace, arXiv 1704.06369; CosFace, arXiv 1801.09414; ArcFace, arXiv 1801.07698.
    """

    def __init__(self, dim: int, outputs: int, scale: float = 16.0) -> None:
        super().__init__()
        if not (0 < scale < math.inf):
            raise ValueError(f"scale must be a positive, finite number, got {scale!r}")
        self.unit = UnitLength()
        self.linear = nn.Linear(dim, outputs, bias=False)
        parametrize.register_parametrization(self.linear, "weight", ScaledRows(float(scale)))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (N, K) of features (N, d)."""
        logits: Tensor = self.linear(self.unit(features))
        return logits


def with_cosine_head(network: Network, scale: float = 16.0) -> Network:
    """Return a network with a cosine head in the place of its linear one; the backbone has the same weights.

    Raises:
        ValueError: the scale is not a positive, finite number.
    """
    head = CosineHead(network.head.in_features, network.head.out_features, scale)
    network.backbone, network.head = nn.Sequential(network.backbone, head.unit), head.linear
    return network
