"""What `extract` writes of a classifier's snapshot in place of its features, and what `measure` reads of it.

Of the training and the test split: the targets, the sufficient statistics (`nclens.metrics.sufficient`), and the
features of some samples, by which pictures are drawn. Logits of the test split, and of a validation split, are whole.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from nclens.data.tensors import Split
from nclens.metrics.film import film_samples
from nclens.metrics.regressor import SPLITS
from nclens.metrics.representation import with_samples
from nclens.metrics.sufficient import ROWS, SufficientStatistics
from nclens.models import Network
from nclens.training.loop import Backbone
from nclens.training.passes import batches
from nclens.workflow.build.losses import loss_after
from nclens.workflow.build.metrics import STATISTICS
from nclens.workflow.specs import Statistics

#: Samples of each of the three classes shown, in each split, whose features are kept at most, and the seed of the draw.
MOST_SHOWN, SEED = 2000, 0


def statistics_of(
    network: Network,
    splits: Mapping[str, Split],
    size: int,
    backbone: Backbone,
    spec: Statistics,
    epoch: int,
    clean_targets: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the tensors of a snapshot by their names in the file, but for the head.

    Every split is passed twice, in the same order, and the validation split once.

    Args:
        network: in evaluation mode, with the weights of the snapshot.
        splits: `train` and `test`, and perhaps `val`.
        size: samples of a batch that passes the network.
        backbone: the pass to take.
        spec: the loss, and the classes that are shown.
        epoch: of the snapshot.
        clean_targets: of the training split, where its labels are noisy.

    Raises:
        ValueError: the head is not z = W h + b, or a feature or logit is not finite; names the split.
    """
    chosen = sampled({name: splits[name].targets.cpu() for name in SPLITS}, spec.projection_classes)
    made: dict[str, Tensor] = {}
    reference: Tensor | None = None
    for name, split in splits.items():
        one_pass = partial(batches, network, split, size, backbone, ROWS)
        made[f"{name}.targets"] = split.targets
        try:
            if name not in SPLITS:
                made[f"{name}.logits"] = torch.cat([logits.cpu() for _, logits in one_pass()])
                continue
            found = None
            kept = _Kept(chosen[name], None if name == "train" else len(split))
            for features, logits in one_pass():
                if found is None:  # hooks such as `torch.nn.utils.weight_norm` have set the weight by now
                    clean = clean_targets if name == "train" else None
                    found = _begun(network, split, spec, epoch, clean)
                found.add(features, logits)
                kept.add(features, logits)
            assert found is not None  # no split is empty
            means = found.begin_again(reference)
            for features, logits in one_pass():
                found.add_again(features, logits)
        except ValueError as error:
            raise ValueError(f"{name} split: {error}") from error
        reference = means if name == "train" else reference
        made |= {f"{name}.{key}": tensor for key, tensor in kept.tensors().items()}
        made |= {f"{name}.{STATISTICS}{key}": tensor for key, tensor in found.tensors().items()}
    return made


def _begun(network: Network, split: Split, spec: Statistics, epoch: int, clean: Tensor | None) -> SufficientStatistics:
    head = network.head
    bias = head.weight.new_zeros(head.out_features) if head.bias is None else head.bias
    loss = loss_after(spec.loss, epoch, spec.epochs)
    return SufficientStatistics(split.targets, head.weight, bias, clean_labels=clean, loss=loss, onehot=spec.onehot)


class _Kept:
    """The features of some samples, and the logits of all where their number is given."""

    def __init__(self, sampled: Tensor, samples: int | None) -> None:
        self._sampled, self._samples, self._done = sampled, samples, 0
        self._features, self._logits = torch.empty(0), torch.empty(0)

    def add(self, features: Tensor, logits: Tensor) -> None:
        if not self._done:
            self._features = torch.empty(len(self._sampled), features.shape[1])
            self._logits = torch.empty(self._samples or 0, logits.shape[1])
        start, self._done = self._done, self._done + len(features)
        first, last = torch.searchsorted(self._sampled, torch.tensor([start, self._done])).tolist()
        rows = self._sampled[first:last] - start
        self._features[first:last] = features[rows.to(features.device)].cpu()
        if self._samples is not None:
            self._logits[start : self._done] = logits

    def tensors(self) -> dict[str, Tensor]:
        found = {"sampled": self._sampled, "features": self._features}
        return found if self._samples is None else {**found, "logits": self._logits}


def sampled(labels: Mapping[str, Tensor], templates: tuple[int, ...]) -> dict[str, Tensor]:
    """Return the samples of each split whose features are kept (P,), ascending.

    They are those of the three classes shown, a seeded draw of `MOST_SHOWN` where a class has more, and those of the
    film.

    Args:
        labels: `train` and `test` (N,).
        templates: the classes that are shown; those without samples are replaced.
    """
    shown = with_samples(templates, *(labels[name] for name in SPLITS))
    found = {}
    for name in SPLITS:
        generator = torch.Generator().manual_seed(SEED)
        parts = [] if name != "train" else [film_samples(labels[name], templates)[2]]
        for label in shown:
            rows = (labels[name] == label).nonzero()[:, 0]
            if len(rows) > MOST_SHOWN:
                rows = rows[torch.randperm(len(rows), generator=generator)[:MOST_SHOWN]]
            parts.append(rows)
        found[name] = torch.cat([torch.empty(0, dtype=torch.int64), *parts]).unique()
    return found
