"""Out-of-distribution detection: how well a network's features and logits tell other data from its own."""

from __future__ import annotations

import torch
from torch import Tensor

from nclens.data.tensors import Split
from nclens.metrics.catalogue import PREFIXES
from nclens.metrics.held_out import divided, held_out_of
from nclens.metrics.out_of_distribution import CUTOFF, Detector, auroc, false_positive_rate, nc5
from nclens.models import Network
from nclens.training.loop import extract_features


def detection(
    network: Network,
    train: Split,
    test: Split,
    other: tuple[Split, Split],
    *,
    held_out: float,
    held_out_seed: int,
    seed: int,
    shift: str = "semantic",
    directions: int | None = None,
    cutoff: float = CUTOFF,
    validation: Split | None = None,
) -> dict[str, float]:
    """AUROC and FPR95 of every score against the test split of another data set.

    The scores are fitted to the training split (`nclens.metrics.out_of_distribution`). alpha of NCI is chosen on the
    held-out samples, the validation split or a part of the test split, against noise, images of independent Gaussian
    pixels with the training split's mean and standard deviation, so that no outsider is seen before. In distribution
    are the test samples that are not held out.

    Args:
        network: left in evaluation mode.
        train, test: the splits of the network's data set.
        other: training and test split of the other data set, normalised as the network's own.
        held_out, held_out_seed: share of each class of the test split and its seed, as for
            `nclens.metrics.held_out.stratified_mask`; not used where there is a validation split.
        seed: of the noise.
        shift: `semantic`, or `covariate` for the same classes from another source, whose metrics begin with `shift`.
        validation: the validation split, where there is one.
        directions, cutoff: as for `nclens.metrics.out_of_distribution.Detector.fit`.

    Returns:
        ``ood_auroc_{score}`` and ``ood_fpr95_{score}`` for every score, ``nc5``, ``ood_nci_alpha``, the alpha chosen,
        and ``ood_mahalanobis_rank``, the rank kept of the covariance.

    Raises:
        ValueError: `directions` is more than the features have.
    """
    features, _ = extract_features(network, train)
    labels = train.targets.cpu()
    weight = network.head.weight.detach().cpu()
    detector = Detector.fit(features, labels, weight, cutoff=cutoff, directions=directions)
    outside = extract_features(network, other[1])
    tested = extract_features(network, test)
    known = {"test.targets": test.targets.cpu()}
    if validation is not None:
        known |= dict(zip(("val.features", "val.logits"), extract_features(network, validation), strict=True))
        known["val.targets"] = validation.targets.cpu()
    parts = []
    for kind, values in zip(("features", "logits"), tested, strict=True):
        held = held_out_of(known, held_out, held_out_seed, kind)
        parts.append([chosen for chosen, _ in divided(values, known["test.targets"], held)])
    chosen_on, inside = ((features_of, logits_of) for features_of, logits_of in zip(*parts, strict=True))
    noise = extract_features(network, _noise(test, len(chosen_on[0]), seed))
    alpha = detector.fit_alpha(chosen_on, noise)
    own, others = detector.scores(*inside, alpha), detector.scores(*outside, alpha)
    prefix = PREFIXES[shift]
    return {
        **{f"{prefix}_auroc_{name}": auroc(own[name], others[name]) for name in own},
        **{f"{prefix}_fpr95_{name}": false_positive_rate(own[name], others[name]) for name in own},
        "nc5" if prefix == "ood" else f"{prefix}_nc5": nc5(detector.means, outside[0]),
        f"{prefix}_nci_alpha": alpha,
        f"{prefix}_mahalanobis_rank": float(detector.rank),
    }


def _noise(like: Split, count: int, seed: int) -> Split:
    """Return Gaussian noise with a split's normalisation: images are rounded and clipped to 0..255."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, *like.inputs.shape[1:], generator=generator).to(like.inputs.device)
    values: Tensor = like.mean + like.std * drawn
    if like.inputs.dtype == torch.uint8:
        values = values.round().clamp(0, 255).to(torch.uint8)
    return Split(values, like.targets.new_zeros(count), like.mean, like.std, like.task)
