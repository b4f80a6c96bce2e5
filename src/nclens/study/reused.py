"""Losses of another study: entries among an experiment's losses whose runs are made and measured there."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from nclens.study.colours import PALETTE
from nclens.study.fields import Closed, Colour, Name, Text
from nclens.study.imported import RECORDED
from nclens.study.losses import Label, LossBase, LossEntry
from nclens.study.reading import ConfigError, read_study

if TYPE_CHECKING:
    from nclens.study.study import Study

#: Keys of `training` that change no network, or no more than another machine does.
UNSEEN = ("device", "record_every", "cuda_graph")
#: What a loss of a kind that this study does not compute has besides its looks.
LOOKS = ("label", "colour")


class Reused(Closed):
    """A loss of another study: its runs are used as they are, neither copied nor made again."""

    study: Text
    """The other study: its YAML file, or the folder of its results, such as `results/digits`; from the current folder,
    or beside the configuration."""
    experiment: Name
    """An entry of its `experiments`."""
    loss: Name
    """One of that experiment's losses."""
    name: Name | None = None
    """What the loss is called here; by default as there."""
    label: Label | None = None
    """Name in figures and tables; by default that of the other study."""
    colour: Colour | None = None
    """Colour in figures, #rrggbb; by default that of the other study."""

    @property
    def called(self) -> str:
        """The name of the loss here."""
        return self.name or self.loss


def _tag(value: Any) -> str:
    return "reused:" if isinstance(value, Reused | Mapping) else "name:"  # no key of an entry has these names


#: A loss of an experiment: an entry of `losses`, or a loss of another study.
LossOf = Annotated[
    Annotated[Name, Tag("name:")] | Annotated[Reused, Tag("reused:")],
    Discriminator(_tag),
]


class OtherLoss(LossBase):
    """A loss whose function is the other study's own, or which has a teacher there: only its name is known here."""

    name: str
    task = None


@dataclass(frozen=True)
class Source:
    """Where the runs of a reused loss are, and what the other study says of them.

    Attributes:
        entry: what this study's configuration says.
        folder: that of the other study's results.
        configuration: its YAML file, where it is known.
        study: the other study, every default written out.
    """

    entry: Reused
    folder: Path
    configuration: Path | None
    study: Mapping[str, Any]

    @property
    def experiment(self) -> Mapping[str, Any]:
        """The experiment that the loss is of."""
        found: Mapping[str, Any] = self.study["experiments"][self.entry.experiment]
        return found

    @property
    def dataset(self) -> str:
        """What the other study calls the data set."""
        return str(self.experiment["dataset"])

    @property
    def model(self) -> str | None:
        """What the other study calls the network of the loss; None for recorded features."""
        model = self.study["losses"][self.entry.loss].get("model") or self.experiment.get("model")
        return model[self.entry.loss] if isinstance(model, Mapping) else model

    @property
    def runs(self) -> Path:
        """The folder of the runs, in which each seed has its own."""
        return self.folder / self.dataset / (self.model or RECORDED) / self.entry.loss

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        if "runs" in self.experiment:
            return sorted(int(seed) for seed in self.experiment["runs"][self.entry.loss])
        return list(self.experiment["seeds"])

    @property
    def minimised(self) -> str | None:
        """What minimised the loss there, as text, where that is a function of the other study's own; None elsewhere."""
        entry, training = self.study["losses"][self.entry.loss], self.experiment.get("training", {})
        chosen = [entry.get(key) or training.get(key) for key in ("optimizer", "lr_schedule")]
        return json.dumps([self.study["study"], *chosen], sort_keys=True) if any(map(_is_own, chosen)) else None

    @property
    def descent(self) -> dict[str, Any]:
        """The keys of a loss entry that say how it was minimised there: `weight_decay`, `optimizer`, `lr_schedule`."""
        entry, training = self.study["losses"][self.entry.loss], self.experiment.get("training")
        if training is None:  # networks trained elsewhere
            return {"weight_decay": 0.0}
        chosen = {key: entry.get(key) or training[key] for key in ("optimizer", "lr_schedule")}
        if entry.get("weight_decay") is not None:  # a part of the loss
            chosen["weight_decay"] = entry["weight_decay"]
            del chosen["optimizer"]
        # The user's own functions are in the other study's files.
        return {key: value for key, value in chosen.items() if not _is_own(value)}

    @property
    def written(self) -> str:
        """The other study as its entry names it, from the current folder."""
        return str(self.configuration if self.entry.study.endswith((".yaml", ".yml")) else self.folder)

    @property
    def command(self) -> str:
        """The command that makes or finishes the other study."""
        return command(self.configuration)

    def loss(self) -> LossBase:
        """Return the loss as an entry of this study.

        Raises:
            PydanticCustomError: the other study has it in another form, as of another version.
        """
        there = dict(self.study["losses"][self.entry.loss])
        looks = {key: getattr(self.entry, key) or there.get(key) for key in LOOKS}
        for key in ("model", "weight_decay", "optimizer", "lr_schedule"):
            there.pop(key, None)
        if "function" in there or "teacher" in there:
            there = {"name": "own", **looks}
        try:
            checked = _OTHER if there["name"] == "own" else _ENTRIES
            return checked.validate_python(there | looks | self.descent)
        except ValidationError as error:
            raise _refusal(
                self.entry, f"{self.folder}: losses.{self.entry.loss} {error.errors()[0]['msg']}: `{self.command}`"
            ) from None


def _is_own(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "function" in entry


_ENTRIES: TypeAdapter[Any] = TypeAdapter(LossEntry)
_OTHER: TypeAdapter[Any] = TypeAdapter(OtherLoss)


def command(configuration: Path | None) -> str:
    """Return the command that runs a study to its end.

    >>> command(Path("studies/smoke.yaml")), command(None)
    ('nclens run studies/smoke.yaml', 'nclens run STUDY.yaml')
    """
    return f"nclens run {configuration or 'STUDY.yaml'}"


def find(entry: Reused, folders: Sequence[str | Path]) -> Source:
    """Return where the runs of a loss are.

    Raises:
        PydanticCustomError: there is no such study, it has not been run, or it lacks the experiment or the loss.
    """
    folder, configuration = _place(entry, folders)
    resolved = folder / "study.yaml"
    if not resolved.is_file():
        raise _refusal(
            entry, f"{folder} has no results yet, {resolved} is missing: `{command(configuration)}` makes them"
        )
    try:
        study = read_study(resolved)
        experiments, losses = study["experiments"], study["losses"]
    except (ConfigError, TypeError, KeyError) as error:
        said = error if isinstance(error, ConfigError) else f"{resolved} is no resolved study"
        raise _refusal(entry, f"{said}: `{command(configuration)}` makes it again") from None
    if entry.experiment not in experiments:
        raise _refusal(entry, f"{folder} has no experiment {entry.experiment}; it has: {', '.join(experiments)}")
    of = experiments[entry.experiment]
    if "training" in of and "optimizer" not in of["training"]:
        made = f"{folder} was made by an earlier version, whose training has no optimizer"
        raise _refusal(entry, f"{made}: `{command(configuration)}` makes it again")
    known = list(of["runs"] if "runs" in of else of["losses"])
    names = [loss for loss in known if isinstance(loss, str)]
    others = {loss["name"]: loss for loss in known if isinstance(loss, Mapping)}
    if entry.loss in others:
        first = others[entry.loss]
        raise _refusal(
            entry,
            f"{folder} reuses {entry.loss} itself; allowed: {{study: {first['study']}, experiment: "
            f"{first['experiment']}, loss: {first['loss']}}}",
        )
    if entry.loss not in names or entry.loss not in losses:
        raise _refusal(
            entry, f"{folder}: its experiment {entry.experiment} has no loss {entry.loss}; it has: {', '.join(names)}"
        )
    return Source(entry, folder, configuration, study)


def _place(entry: Reused, folders: Sequence[str | Path]) -> tuple[Path, Path | None]:
    """Return the folder of a study's results, and its YAML file where that is known."""
    written = Path(entry.study).expanduser()
    places = list(dict.fromkeys(Path(os.path.relpath(Path(folder) / written)) for folder in (".", *folders)))
    places = [written] if written.is_absolute() else places
    found = next((place for place in places if place.exists()), None)
    if written.suffix in (".yaml", ".yml"):
        if found is None:
            raise _refusal(entry, f"there is no file {' or '.join(map(str, places))}")
        try:
            return _results(read_study(found)["study"], folders), found
        except (ConfigError, TypeError, KeyError, OSError) as error:
            said = error if isinstance(error, ConfigError | OSError) else f"{found} has no key `study`"
            raise _refusal(entry, str(said)) from None
    folder = found or places[0]
    configuration = configuration_of(folder.name, (".", "studies", *folders))
    if found is None or not found.is_dir():
        raise _refusal(
            entry,
            f"there is no folder {' or '.join(map(str, places))}; allowed: a study's YAML file, or the folder of its "
            f"results such as results/digits, which `{command(configuration)}` makes",
        )
    return folder, configuration


def _results(study: str, folders: Sequence[str | Path]) -> Path:
    """Return the folder of a study's results: in the current folder, unless one of the others has them."""
    places = [Path(os.path.relpath(Path(folder) / "results" / study)) for folder in (".", *folders)]
    return next((place for place in places if (place / "study.yaml").is_file()), places[0])


def configuration_of(study: str, folders: Sequence[str | Path]) -> Path | None:
    """Return the YAML file of a study, by its name, where one is found in some folders."""
    said = re.compile(rf"^study: *['\"]?{re.escape(study)}['\"]? *(?:#.*)?$", re.MULTILINE)
    for folder in dict.fromkeys(Path(os.path.relpath(place)) for place in folders):
        for path in sorted(folder.glob("*.yaml")):
            if path.is_file() and said.search(path.read_text(encoding="utf-8", errors="replace")):
                return path
    return None


# --- what must agree -------------------------------------------------------------------------------------------------


def take(study: "Study", folders: Sequence[str | Path]) -> dict[str, Source]:
    """Return the sources of a study's reused losses by their names here, and add these to its table of losses.

    Raises:
        PydanticCustomError: a study cannot be read, does not agree with this one, or a name is there twice.
    """
    sources: dict[str, Source] = {}
    own = list(study.losses)
    for name, experiment in study.experiments.items():
        for entry in experiment.reused:
            if entry.called in own:
                raise _refusal(
                    entry,
                    f"`{entry.called}` is an entry of `losses` too; allowed: another `name` here, such as "
                    f"{entry.called}_there",
                    name,
                )
            source = find(entry, folders)
            if source.folder.resolve() == Path(study.root).resolve():
                raise _refusal(entry, f"{source.folder} are the results of this study; allowed: the name of the loss")
            known = sources.setdefault(entry.called, source)
            if (known.folder.resolve(), known.entry.experiment, known.entry.loss) != (
                source.folder.resolve(),
                entry.experiment,
                entry.loss,
            ):
                raise _refusal(
                    entry,
                    f"`{entry.called}` is the loss of {known.folder} too; allowed: another `name` for one of them",
                    name,
                )
    for called, loss in zip(sources, _coloured(study, sources), strict=True):
        study.losses[called] = loss
    return sources


def _coloured(study: "Study", sources: Mapping[str, Source]) -> Iterator[LossBase]:
    """Yield the losses; one whose colour another has gets the next of the palette, unless its entry chooses one."""
    taken = {str(loss.colour).upper() for loss in study.losses.values() if loss.colour}
    for source in sources.values():
        loss = source.loss()
        if str(loss.colour).upper() in taken and source.entry.colour is None:
            free = next((colour for colour in PALETTE if colour.upper() not in taken), loss.colour)
            loss = loss.model_copy(update={"colour": free})
        taken.add(str(loss.colour).upper())
        yield loss


def check_reused(study: "Study", name: str) -> None:
    """Refuse losses of another study that were trained or measured otherwise than an experiment's own.

    Raises:
        PydanticCustomError: with both values.
    """
    experiment = study.experiments[name]
    for entry in experiment.reused:
        source = study.source(entry.called)
        if missing := [seed for seed in experiment.seeds if seed not in source.seeds]:
            raise _refusal(
                entry,
                f"{source.folder} has no run of {entry.loss} with seed {', '.join(map(str, missing))}; it has: "
                f"{', '.join(map(str, source.seeds))}",
                name,
            )
        for key, there, here in _settings(study, name, source):
            if there != here:
                raise _refusal(entry, f"{key} is {_shown(there)} in {source.folder} and {_shown(here)} here", name)
        _check_tables(study, name, source)


def check_labels(study: "Study") -> None:
    """Refuse the label of a loss of another study that another loss of its experiment has.

    Raises:
        PydanticCustomError: with the label.
    """
    for name, experiment in study.experiments.items():
        labels = [study.label(loss) for loss in experiment.losses] if experiment.reused else []
        for entry in experiment.reused:
            if labels.count(label := study.label(entry.called)) > 1:
                raise _refusal(entry, f"another loss has the label {label!r}; allowed: another `label` here", name)


def _settings(study: "Study", name: str, source: Source) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that must agree: key, value there, value here."""
    experiment, there = study.experiments[name], source.experiment
    own = study.model_dump(mode="json", include={"measure", "theory"})
    regularised = bool(there.get("training", {}).get("ufm_regularised", False))
    yield "training.ufm_regularised", regularised, experiment.ufm_regularised
    if experiment.ufm_regularised:
        yield from ((f"theory.{key}", source.study["theory"].get(key), own["theory"][key]) for key in own["theory"])
    if study.task(name) == "classification":
        yield from ((f"measure.{key}", source.study["measure"].get(key), own["measure"][key]) for key in own["measure"])
        planes = there.get("projection_classes", [0, 1, 2])
        yield "projection_classes", list(planes), list(experiment.projection_classes)


def _check_tables(study: "Study", name: str, source: Source) -> None:
    """Refuse metrics and probes that the other study does not have, or has otherwise."""
    own = study.model_dump(mode="json", include={"metrics": True, "probes": True})
    probed, experiment = list(source.experiment.get("probes", ())), study.experiments[name]
    kinds = {study.probes[probe].kind for probe in experiment.probes}
    # A probe of the user's own has no kind: its metrics have its name.
    of_kinds = [probe for probe in probed if source.study["probes"][probe].get("kind") in kinds]
    measured = source.study.get("metrics", {})
    wanted = {f"metrics.{key}": (own["metrics"][key], measured.get(key)) for key in study.metrics}
    for key in dict.fromkeys([*experiment.probes, *of_kinds]):
        here = own["probes"][key] if key in experiment.probes else None
        wanted[f"probes.{key}"] = (here, source.study["probes"][key] if key in probed else None)
    for key, (here, there) in wanted.items():
        if _definition(here) != _definition(there):
            where = "here" if here is None else f"in {source.folder}"
            what = f"is not measured {where}" if here is None or there is None else f"is another one in {source.folder}"
            allowed = "the same of both studies" if here is None or there is None else "equal settings"
            raise _refusal(source.entry, f"{key} {what}; allowed: {allowed}", name)


def _definition(entry: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return what a metric or a probe computes: not its file, nor how it is shown."""
    hidden = ("file", "files", "label", "better", "unit")
    return None if entry is None else {key: value for key, value in entry.items() if key not in hidden}


def differences(study: "Study", name: str, loss: str) -> list[tuple[str, str, str]]:
    """Return in what the training of a reused loss differs from that of an experiment: key, value there, value here.

    A loss's own weight decay is a part of the loss, and where a network ran is none of its training.
    """
    source, experiment = study.source(loss), study.trained(name)
    own, other = study.models[experiment.model].model_dump(mode="json"), source.study["models"].get(source.model)
    found: list[tuple[str, Any, Any]] = [("model", "recorded features", experiment.model)] if other is None else []
    keys = [key for key in {**(other or own), **own} if key not in ("dim", "file", "files")]
    found += [(f"model.{key}", other.get(key), own.get(key)) for key in keys] if other else []
    trained, training = source.experiment.get("training"), experiment.training.model_dump(mode="json")
    if trained is None:
        found.append(("training", "elsewhere", "here"))
    else:
        own_entry = source.study["losses"][source.entry.loss]
        chosen = {key: own_entry.get(key) or trained[key] for key in ("optimizer", "lr_schedule")}
        before, here = _flat({**trained, **chosen}), _flat(training)
        if own_entry.get("weight_decay") is not None:  # a part of the loss
            before["optimizer.weight_decay"] = here.get("optimizer.weight_decay")
        keys = [key for key in {**here, **before} if key not in UNSEEN]
        found += [(f"training.{key}", before.get(key), here.get(key)) for key in keys]
    return [(key, _shown(there), _shown(here)) for key, there, here in found if there != here]


def _flat(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a training, those of its tables as `optimizer.learning_rate`."""
    found: dict[str, Any] = {}
    for key, value in training.items():
        within = value if isinstance(value, Mapping) else {"": value}
        found |= {f"{key}.{name}".rstrip("."): one for name, one in within.items() if name not in ("file", "files")}
    return found


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def entries_of(resolved: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the reused losses of a resolved study by their names, each with `study`, `label`, `colour`, ..."""
    experiments = resolved.get("experiments", {}).values()
    losses = (loss for entry in experiments for loss in entry.get("losses", ()))
    return {loss["name"]: dict(loss) for loss in losses if isinstance(loss, Mapping)}


def _refusal(entry: Reused, text: str, experiment: str = "") -> PydanticCustomError:
    where = f"experiments.{experiment}.losses: " if experiment else ""
    said = f"{where}{{study: {entry.study}, experiment: {entry.experiment}, loss: {entry.loss}}}: {text}"
    return PydanticCustomError("reused", "{said}", {"said": said})
