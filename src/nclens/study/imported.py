"""Experiments whose networks were trained elsewhere, and the files that their weights are in."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.datasets import Normalisation
from nclens.study.fields import Closed, Integer, Name, Seed, Text
from nclens.study.figures import FigureName
from nclens.study.losses import Share
from nclens.study.probes import ClassNumber, ProbeName

#: What the folders of runs without a network are called.
RECORDED = "recorded"
#: Snapshots of a run.
MOST_EPOCHS = 1000


def _whole(key: Any) -> Any:
    """Return a seed that is a key: JSON has texts there."""
    return int(key) if isinstance(key, str) and re.fullmatch(r"[0-9]{1,10}", key) else key


SeedKey = Annotated[Seed, BeforeValidator(_whole)]
#: Height and width, or the one number that is both.
Pixels = Annotated[Integer, Field(ge=1, le=4096)]
Sides = Pixels | tuple[Pixels, Pixels]


class Imported(Closed):
    """Networks that were trained elsewhere, or features that were recorded: of each label and seed their files."""

    kind: Literal["imported"]
    dataset: Name
    """An entry of `datasets`: what the networks are measured on."""
    model: Name | dict[Name, Name] | None = None
    """An entry of `models`, or of each label one; none for recorded features."""
    runs: dict[Name, dict[SeedKey, Text]] = Field(min_length=1, max_length=1000)
    """Of each label and seed a file, or a pattern such as `ckpt/ce_s0_epoch{epoch}.pt`, beside the configuration unless
    absolute; `*` matches any text. A label is an entry of `losses`, in which `name` may be left out; one without an
    entry is measured under cross entropy. All runs have the same seeds and the same epochs."""
    normalise: Normalisation | Literal["data", "none"] | None = None
    """What the networks take: pixels scaled to [0, 1] less `mean` over `std`, as in `{mean: [...], std: [...]}`;
    `data`: those of the data set; `none`: pixels in [0, 1], or rows as they are. Required where there is a network."""
    resize: Sides | None = None
    """Images are scaled to it first, bilinear and antialiased: the shorter side, or height and width, in pixels."""
    crop: Sides | None = None
    """Then the central part of this size is taken, in pixels."""
    prefix: Text | None = None
    """What the names of the weights begin with, such as `module.`: it is taken off, and other weights are left out."""
    key: Text | None = None
    """Where a file holds more than weights, the key that they are under, such as `model` or `ema.state_dict`."""
    epoch: Annotated[Integer, Field(ge=0, lt=2**31)] = 0
    """The epoch of a file without `{epoch}` in its name."""
    expected_error: Share | dict[Name, Share | dict[SeedKey, Share]] | None = None
    """Test error of the last snapshot, in [0, 1), or of each label, or of each label and seed: an error that differs
    by more than 0.0005 is refused."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """`cpu`, `cuda`, or `auto`: CUDA where there is one."""
    baseline: Name | None = None
    """The label that the others are compared with; by default the first plain cross entropy."""
    keep_features: Literal["all", "last", "none"] = "all"
    """`all` keeps the features of every snapshot, `last` deletes all but the last once they are measured, `none` writes
    none: statistics of a classifier from which the same is measured."""
    probes: tuple[ProbeName, ...] = ()
    """Entries of `probes`, measured on every network."""
    projection_classes: tuple[ClassNumber, ClassNumber, ClassNumber] = (0, 1, 2)
    """The three classes, by number from 0, on whose templates' plane the figure `projections` shows the features; one
    without samples is replaced by the most frequent other one."""
    figures: tuple[FigureName, ...] | None = None
    """The figures to draw, built-in ones and entries of `figures`; by default every figure that applies."""

    _files: dict[str, dict[int, dict[int, Path]]] = PrivateAttr(default_factory=dict)
    _patterns: dict[str, dict[int, str]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        for key in ("probes", "projection_classes", "figures"):
            values = getattr(self, key) or ()
            if len(set(values)) != len(values):
                message = "{key} {values} must not repeat"
                raise PydanticCustomError("duplicates", message, {"key": key, "values": str(list(values))})
        self._same_seeds()
        self._says_what_networks_take()
        self._of_labels("model")
        self._of_labels("expected_error")
        context = info.context or {}
        folders, known = context.get("folders", ["."]), context.get("epochs", {})
        for label, patterns in self.runs.items():
            found = {seed: self._found(label, seed, folders, known.get(pattern)) for seed, pattern in patterns.items()}
            self._patterns[label] = {seed: pattern for seed, (pattern, _) in found.items()}
            self._files[label] = {seed: files for seed, (_, files) in found.items()}
        self._are_runs_of_one_kind()
        return self

    def _same_seeds(self) -> None:
        first, *others = self.runs.items()
        for label, patterns in others:
            if odd := sorted(set(patterns) ^ set(first[1])):
                has, lacks = (label, first[0]) if odd[0] in patterns else (first[0], label)
                raise PydanticCustomError(
                    "seeds",
                    "runs.{has} has seed {seed} and runs.{lacks} lacks it: all labels have the same seeds, for seeds "
                    "are compared in pairs; leave it out, or make two experiments",
                    {"has": has, "lacks": lacks, "seed": odd[0]},
                )
        if not first[1]:
            raise PydanticCustomError("seeds", "runs.{label} must not be empty", {"label": first[0]})

    def _says_what_networks_take(self) -> None:
        recorded = [file.endswith(".npz") for patterns in self.runs.values() for file in patterns.values()]
        if any(recorded) and not all(recorded):
            message = "runs: some files are recorded features (.npz) and some networks; allowed: all of one kind"
            raise PydanticCustomError("runs", message)
        if not self.is_recorded:
            if self.model is None:
                raise PydanticCustomError("model", "needs `model`, an entry of `models`, or of each label one")
            if self.normalise is None:
                raise PydanticCustomError(
                    "normalise",
                    "needs `normalise`, what the networks take, for the wrong statistics give numbers that look right; "
                    "allowed: a table of `mean` and `std`, `data` (those of the data set) or `none` (pixels in [0, 1])",
                )
            return
        given = [key for key in ("model", "normalise", "resize", "crop", "prefix", "key") if getattr(self, key)]
        given += ["probes"] if self.probes else []
        if given:
            message = "`{key}` needs a network, and the runs are recorded features (.npz): leave it out"
            raise PydanticCustomError("recorded", message, {"key": given[0]})

    def _of_labels(self, key: str) -> None:
        """Refuse a table by label that lacks a label, or has another, and so with its seeds."""
        value = getattr(self, key)
        if not isinstance(value, Mapping):
            return
        tables: list[tuple[str, Mapping[Any, Any], list[Any]]] = [(key, value, list(self.runs))]
        tables += [
            (f"{key}.{label}", own, list(self.seeds)) for label, own in value.items() if isinstance(own, Mapping)
        ]
        for where, table, allowed in tables:
            if odd := [entry for entry in [*table, *allowed] if (entry in table) != (entry in allowed)]:
                what = "is missing" if odd[0] in allowed else "is none of the runs"
                raise PydanticCustomError(
                    "labels",
                    "{where}.{entry} {what}; it has one entry for each of: {allowed}",
                    {"where": where, "entry": str(odd[0]), "what": what, "allowed": ", ".join(map(str, allowed))},
                )

    def _found(
        self, label: str, seed: int, folders: list[str], known: list[int] | None = None
    ) -> tuple[str, dict[int, Path]]:
        """Return a run's pattern from the current folder, beside the first file of the configuration that has matches.

        With it come the files that match, by epoch. Of a run that was taken up at epochs that are known no file is
        needed.
        """
        if known is not None:
            pattern = self.runs[label][seed]
            return pattern, {epoch: Path(f"{pattern}@{epoch}") for epoch in known}
        written = Path(self.runs[label][seed]).expanduser()
        context = {"where": f"runs.{label}.{seed}", "pattern": self.runs[label][seed], "epoch": "{epoch}"}
        patterns = [str(written) if written.is_absolute() else os.path.relpath(folder / written) for folder in folders]
        for pattern in dict.fromkeys(patterns):
            try:
                if found := matching(pattern, self.epoch):
                    return pattern, found
            except ValueError as error:
                message = "{where} = {pattern}: {error}"
                raise PydanticCustomError("runs", message, {**context, "error": str(error)}) from None
        message = (
            "{where} = {pattern}: matches no file; it is looked for at {places}, where {epoch} is a whole number and * "
            "any text"
        )
        raise PydanticCustomError("runs", message, {**context, "places": " or ".join(dict.fromkeys(patterns))})

    def _are_runs_of_one_kind(self) -> None:
        """Refuse epochs that differ, and a file that two runs have."""
        seen: dict[Path, str] = {}
        first = ""
        for label, of_label in self._files.items():
            for seed, files in of_label.items():
                where, first = f"runs.{label}.{seed}", first or f"runs.{label}.{seed}"
                if len(files) > MOST_EPOCHS:
                    message = "{where}: has {n} epochs; at most {most} are allowed"
                    raise PydanticCustomError("epochs", message, {"where": where, "n": len(files), "most": MOST_EPOCHS})
                if odd := sorted(set(files) ^ set(self.snapshot_epochs)):
                    has, lacks = (where, first) if odd[0] in files else (first, where)
                    raise PydanticCustomError(
                        "epochs",
                        "{has} has epoch {epoch} and {lacks} lacks it: all runs of an experiment have the same epochs",
                        {"has": has, "lacks": lacks, "epoch": odd[0]},
                    )
                for path in files.values():
                    other = seen.setdefault(path.resolve(), where)
                    if other != where:
                        message = "{where} and {other} have one file, {path}: two runs are two networks"
                        raise PydanticCustomError("runs", message, {"where": where, "other": other, "path": str(path)})

    # --- what the study uses of it, by the names that a trained experiment has ---------------------------------------

    @property
    def is_recorded(self) -> bool:
        """Whether the runs are features recorded without a network."""
        return next(iter(next(iter(self.runs.values())).values())).endswith(".npz")

    @property
    def losses(self) -> tuple[str, ...]:
        """The labels, which are entries of `losses`."""
        return tuple(self.runs)

    own = losses
    #: Its networks are all its own.
    reused: ClassVar[tuple[Any, ...]] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(sorted(next(iter(self.runs.values()))))

    @property
    def snapshot_epochs(self) -> list[int]:
        """The epochs of the files, ascending."""
        return sorted(next(iter(next(iter(self._files.values())).values())))

    @property
    def epochs(self) -> int:
        """The last epoch."""
        return self.snapshot_epochs[-1]

    @property
    def devices(self) -> int:
        """How many devices a job takes: nothing is trained."""
        return 1

    @property
    def ufm_regularised(self) -> bool:
        """Whether training had the penalties of the theory; nothing is known of it."""
        return False

    @property
    def weight_decay(self) -> float:
        """The weight decay of training; nothing is known of it, and 0 fits no grid."""
        return 0.0

    def model_of(self, loss: str) -> str | None:
        """Return the model of a label; None for recorded features."""
        return self.model[loss] if isinstance(self.model, dict) else self.model

    @property
    def models(self) -> tuple[str, ...]:
        """The models, each once."""
        return tuple(dict.fromkeys(filter(None, map(self.model_of, self.losses))))

    @property
    def network(self) -> str:
        """What the networks are called together: the models, joined by +."""
        return "+".join(self.models) or RECORDED

    def network_of(self, loss: str) -> str:
        """Return what the folders of a label's runs and the column `model` call its network."""
        return self.model_of(loss) or RECORDED

    def pattern(self, loss: str, seed: int) -> str:
        """Return the path of a run's files, with `{epoch}` and `*`, from the current folder."""
        return self._patterns[loss][seed]

    def files(self, loss: str, seed: int) -> dict[int, Path]:
        """Return the files of a run, or its folders of Hugging Face, by epoch."""
        return dict(sorted(self._files[loss][seed].items()))

    def expected(self, loss: str, seed: int) -> float | None:
        """Return the test error that a run's last snapshot is to have."""
        of_label = self.expected_error
        of_seed = of_label[loss] if isinstance(of_label, dict) else of_label
        return of_seed[seed] if isinstance(of_seed, dict) else of_seed

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What is done to the data set's inputs before a network takes them; empty where nothing is."""
        chosen = self.model_dump(mode="json", include={"normalise", "resize", "crop"})
        return {} if self.is_recorded or chosen == {"normalise": "data", "resize": None, "crop": None} else chosen


def matching(pattern: str, epoch: int = 0) -> dict[int, Path]:
    """Return the files that a pattern matches, by epoch.

    Args:
        pattern: a path in which `{epoch}` is a whole number, the same wherever it is, and `*` any text. What is hidden
            is not matched by `*`.
        epoch: of a pattern without `{epoch}`.

    Raises:
        ValueError: two files match at one epoch.
    """
    found: dict[int, Path] = {}
    for path, number in _walk(Path(), Path(pattern).parts, None):
        at = epoch if number is None else number
        if at in found:
            raise ValueError(f"matches {found[at]} and {path}, both at epoch {at}; one file is allowed")
        found[at] = path
    return found


def _walk(folder: Path, parts: tuple[str, ...], number: int | None) -> Iterator[tuple[Path, int | None]]:
    """Yield what the parts of a pattern match below a folder, with the epoch; `number` is that of earlier parts."""
    if not parts:
        yield (folder, number)
        return
    part, *others = parts
    if "{epoch}" not in part and "*" not in part:
        if os.path.lexists(folder / part) and (folder / part).exists():
            yield from _walk(folder / part, tuple(others), number)
        return
    texts = {"{epoch}": "([0-9]{1,10})", "*": ".*"}
    expression = re.compile("".join(texts.get(text, re.escape(text)) for text in re.split(r"(\{epoch\}|\*)", part)))
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    for name in names:
        match = None if name.startswith(".") else expression.fullmatch(name)
        numbers = {int(group) for group in match.groups()} if match else set()
        numbers |= {number} - {None}  # type: ignore[arg-type]
        if match and len(numbers) < 2:
            yield from _walk(folder / name, tuple(others), next(iter(numbers), None))


def with_labels(raw: Any) -> Any:
    """Return a study's raw content with an entry in `losses` for every label of networks trained elsewhere.

    An entry without a `name` is label smoothing where it has a `smoothing`, plain cross entropy where it is called
    `ce`, and else a loss that is not known.
    """
    experiments = raw.get("experiments") if isinstance(raw, Mapping) else None
    if not isinstance(experiments, Mapping):
        return raw
    imported = [entry for entry in experiments.values() if isinstance(entry, Mapping) and "runs" in entry]
    labels = [label for entry in imported if isinstance(entry["runs"], Mapping) for label in entry["runs"]]
    losses = raw.get("losses", {})
    if not labels or not isinstance(losses, Mapping):
        return raw
    entries = {**losses, **{label: {} for label in labels if label not in losses}}
    return {**raw, "losses": {label: _named(label, entry) for label, entry in entries.items()}}


def _named(label: str, entry: Any) -> Any:
    if not isinstance(entry, Mapping) or "name" in entry or "function" in entry:
        return entry
    return {"name": "ls" if "smoothing" in entry else "ce" if label == "ce" else "unknown", **entry}
