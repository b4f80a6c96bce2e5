"""The experiments of a resolved study as it was read, without the files of the user's own that it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nclens.study.imported import RECORDED
from nclens.study.reused import entries_of


@dataclass(frozen=True)
class ResolvedExperiment:
    """An experiment of a resolved study.

    Attributes:
        experiment: its name.
        dataset: what its networks are trained on.
        losses: names of its losses, those of other studies among them.
        seeds: seeds of its runs, ascending where the networks were trained elsewhere.
        models: what the folders of each loss's runs call its network.
    """

    experiment: str
    dataset: str
    losses: list[str]
    seeds: list[int]
    models: dict[str, str]


def experiments_of(resolved: Mapping[str, Any]) -> dict[str, ResolvedExperiment]:
    """Return the experiments of a resolved study by name."""
    entries = resolved["losses"] | entries_of(resolved)
    return {name: _experiment(name, entry, entries) for name, entry in resolved["experiments"].items()}


def _experiment(name: str, entry: Mapping[str, Any], entries: Mapping[str, Any]) -> ResolvedExperiment:
    # Networks trained elsewhere are listed by label and seed.
    runs = entry.get("runs", {})
    losses = [loss if isinstance(loss, str) else loss["name"] for loss in entry.get("losses", runs)]
    seeds = entry.get("seeds") or sorted({int(seed) for of_label in runs.values() for seed in of_label})
    chosen = entry.get("model") or RECORDED
    models = {
        loss: chosen[loss] if isinstance(chosen, Mapping) else entries[loss].get("model") or chosen for loss in losses
    }
    return ResolvedExperiment(name, entry["dataset"], losses, seeds, models)
