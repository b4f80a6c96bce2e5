"""A finished study in Python: its tables, verdicts, figures, networks and features, read from its files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from nclens.study import load_study as check
from nclens.study import read_study
from nclens.study.reused import entries_of
from nclens.training.history import HISTORY
from nclens.workflow import specs, tables
from nclens.workflow.epochs import epochs_of, read_epoch, read_weights
from nclens.workflow.files import FileError, damaged, read_json, read_tensors
from nclens.workflow.finished.opening import check_current, listed, locate, read_resolved
from nclens.workflow.finished.overview import overview
from nclens.workflow.paths import RunFolder, StudyFolder, run_path
from nclens.workflow.resolved import ResolvedExperiment, experiments_of
from nclens.workflow.reused import resolved_sources, snapshots_of
from nclens.workflow.streams import read_manifest

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from nclens.data.tensors import Split
    from nclens.figures.inputs import Drawing
    from nclens.models import Network
    from nclens.study import Study

#: Table of the theory -> what it is.
THEORY = {
    "ufm": tables.THEORY,
    "dynamics": tables.DYNAMICS,
    "regression": tables.REGRESSION,
    "predictions": tables.PREDICTIONS,
    "effective": tables.EFFECTIVE,
    "nc0": tables.NC0,
}


class Features(NamedTuple):
    """What a network makes of a split, in the order of the prepared data.

    Attributes:
        features: h, (N, d), float32.
        labels: classes, (N,), int64; of a regression the targets, (N, n), float32.
        logits: W h + b, (N, K), float32; of a regression the predictions, (N, n).
    """

    features: Tensor
    labels: Tensor
    logits: Tensor


class Data(NamedTuple):
    """A split of a prepared data set.

    Attributes:
        inputs: what networks take, normalised, (N, C, H, W) or (N, F), float32.
        labels: classes, (N,), int64; of a regression the targets, (N, n), float32.
    """

    inputs: Tensor
    labels: Tensor


def load_study(folder: str | Path, folders: str | Path | Sequence[str | Path] = ()) -> FinishedStudy:
    """Open a study that has run.

    Args:
        folder: of its results, such as `results/digits`.
        folders: one or several, where the modules of the study's own functions and the studies whose runs it uses are
            looked for, before the current folder, the one above `results` and the one of the study's YAML file.

    Raises:
        FileError: there is no such folder, the study has not run, or the folder is no study's; says what to do.
        ValueError: a folder is empty, or no path.
    """
    root = _folder("folder", folder)
    given = list(folders) if isinstance(folders, Iterable) and not isinstance(folders, str | bytes) else [folders]
    more = [_folder("folders", place) for place in given]
    if missing := [str(place) for place in more if not place.is_dir()]:
        raise FileError(f"folders: there is no folder {', '.join(missing)}")
    if root.is_file():
        raise FileError(f"{root} is a file; allowed: the folder of a study's results, such as results/digits")
    place = locate(root, more)
    config = read_resolved(place)
    known: list[str | Path] = [
        *more,
        ".",
        place.project,
        *([place.configuration.parent] if place.configuration else []),
    ]
    places = list(dict.fromkeys(os.path.relpath(one) for one in known))
    try:
        opened = FinishedStudy(root, config, places, place.command)
        _ = repr(opened), opened.figures, opened.labels
    except (TypeError, KeyError, AttributeError):
        raise damaged(StudyFolder(root).resolved, "resolve", "it is no resolved study") from None
    return opened


class FinishedStudy:
    """A study that has run, as `nclens.load_study` opens it. Everything is read from the study's files when asked for.

    Where a method takes `experiment`, it may be left out if only one experiment has the loss, figure or data.

    Attributes:
        folder: of the results.
        name: the study's.
        title: one line about it; may be empty.
        command: the shell command that makes or finishes it.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], folders: Sequence[str | Path], command: str) -> None:
        self.folder, self._config, self._folders, self.command = folder, config, folders, command
        self.name, self.title = str(config["study"]), str(config.get("title", ""))

    def __repr__(self) -> str:
        losses = dict.fromkeys(loss for entry in self._experiments.values() for loss in entry.losses)
        text = f"experiments {listed(self._experiments)}; losses {listed(losses)}"
        return f"<study {self.name} in {self.folder}: {text}>"

    def _repr_html_(self) -> str:
        return overview(self)

    # --- tables ------------------------------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, with every default: the content of `study.yaml`."""
        found: dict[str, Any] = read_study(self.files.resolved)
        return found

    @property
    def metrics(self) -> pd.DataFrame:
        """All measurements, one value a row.

        | column | content |
        |---|---|
        | `experiment`, `dataset`, `model`, `loss` | names of the configuration |
        | `seed` | of the run |
        | `split` | `train`, `test` or `val` |
        | `epoch` | number of epochs trained |
        | `metric` | name, such as `nc1`; the documentation's page on measures has the formulas |
        | `value` | float; nan where the metric is undefined |

        Metrics that begin with `epoch_`, and `learning_rate`, are statistics of the training epoch; all others are
        measured on the snapshot after it, in evaluation mode.

        Raises:
            FileError: the study has not run to its end; names the command.
        """
        return self._read(tables.COLLECTED, self.files.metrics)

    @property
    def history(self) -> pd.DataFrame:
        """The training's own statistics: a row a run, split and epoch, with the columns of `nclens.training.history`.

        These are `epoch_loss`, `epoch_cross_entropy` and `epoch_error`, of a regression `epoch_mse`, `learning_rate`
        and `epoch_seconds`.

        Raises:
            FileError: as of `metrics`.
        """
        names = list(HISTORY.values())
        rows = self._read(tables.COLLECTED, self.files.metrics, filters=[("metric", "in", names)])
        keys = [name for name in tables.COLLECTED.columns if name not in ("metric", "value")]
        wide = rows.pivot(index=keys, columns="metric", values="value").rename_axis(columns=None).reset_index()
        return wide[[*keys, *(name for name in names if name in wide)]]

    @property
    def claims(self) -> pd.DataFrame:
        """The verdicts: a row a claim and pair of losses (`level` `claim`), each followed by its measures (`measure`).

        | column | content |
        |---|---|
        | `claim`, `paper`, `statement` | the claim's id, source and text |
        | `experiment`, `dataset`, `model`, `loss`, `baseline` | what is compared; `baseline` is empty for one loss |
        | `level`, `quantity` | `claim` or `measure`; what was measured |
        | `effect`, `low`, `high`, `unit`, `null` | the effect, its 95% interval, and the value of no effect |
        | `seeds` | pairs of runs; nan for theory |
        | `verdict`, `note` | `supported`, `contradicted` or `inconclusive`, and why |

        Raises:
            FileError: as of `metrics`.
        """
        return self._read(tables.CLAIMS, self.files.claims)

    @property
    def losses(self) -> pd.DataFrame:
        """The losses side by side at the last epoch: a row an experiment, loss and quantity.

        `mean`, `low` and `high` are over `seeds` runs, with a 95% t interval; `best` marks the best loss.

        Raises:
            FileError: as of `metrics`.
        """
        return self._read(tables.LOSSES, self.files.losses)

    @property
    def theory(self) -> dict[str, pd.DataFrame]:
        """The tables of the theory by name: `ufm`, `dynamics`, `regression`, `predictions`, `effective`, `nc0`.

        Raises:
            FileError: as of `metrics`.
        """
        return {name: self._read(table, self.files.theory(name)) for name, table in THEORY.items()}

    @property
    def experiments(self) -> pd.DataFrame:
        """The experiments: a row each, with `dataset`, and lists of `models`, `losses`, `seeds` and `figures`."""
        rows = [
            {
                "experiment": name,
                "dataset": entry.dataset,
                "models": list(dict.fromkeys(entry.models.values())),
                "losses": entry.losses,
                "seeds": entry.seeds,
                "figures": self._figures[name],
            }
            for name, entry in self._experiments.items()
        ]
        return pd.DataFrame(rows)

    @property
    def runs(self) -> pd.DataFrame:
        """The runs: a row each, with the names of the configuration, `seed`, the list of `epochs`, and the `folder`.

        Raises:
            FileError: as of `metrics`.
        """
        keys = [
            (entry.experiment, entry.dataset, entry.models[loss], loss, seed)
            for entry in self._experiments.values()
            for loss in entry.losses
            for seed in entry.seeds
        ]
        rows: list[dict[str, Any]] = []
        for key in keys:
            run = self.files.run(run_path(*key[1:]))
            self.require(run.run)
            names = dict(zip(("experiment", "dataset", "model", "loss", "seed"), key, strict=True))
            rows.append({**names, "epochs": snapshots_of(run), "folder": str(run.folder)})
        return pd.DataFrame(rows)

    @cached_property
    def files(self) -> StudyFolder:
        """The paths of its files."""
        return StudyFolder(self.folder, resolved_sources(self._config, self._folders))

    @cached_property
    def checked(self) -> Study:
        """The configuration as the workflow uses it, with the modules of the study's own functions.

        Raises:
            ConfigError: a module is not found; says where it is looked for.
        """
        return check(self._config, [*self._folders], self._epochs_taken_up())

    @property
    def labels(self) -> dict[str, str]:
        """What each loss is called in figures and tables."""
        entries = self._config["losses"] | entries_of(self._config)
        return {loss: str(entry.get("label") or loss) for loss, entry in entries.items()}

    # --- figures -----------------------------------------------------------------------------------------------------

    @property
    def figures(self) -> list[str]:
        """The names of the figures, in the order of the page."""
        return list(dict.fromkeys(name for names in self._figures.values() for name in names))

    def figure(self, name: str, experiment: str | None = None) -> Figure:
        """Return a figure, drawn from the study's files as the workflow draws it.

        Args:
            name: one of `figures`.
            experiment: the experiment that it shows.

        Raises:
            ValueError: the study has no such figure or experiment, or several experiments have the figure; names them.
            FileError: the study has not run to its end; names the command.
        """
        from nclens.figures.style import encode

        figure = self.drawing(name, experiment).figure
        # A notebook that has not loaded pyplot knows no figures.
        figure._repr_png_ = partial(encode, figure, "png")  # type: ignore[attr-defined]
        return figure

    def figure_data(self, name: str, experiment: str | None = None) -> pd.DataFrame:
        """Return the values that a figure shows, one row a mark: the figure's CSV file. Arguments as of `figure`."""
        return self.drawing(name, experiment).table

    def drawing(self, name: str, experiment: str | None = None) -> Drawing:
        """Return a figure together with its table; see `figure`."""
        from nclens.workflow.build.figures import draw_figure, draw_own
        from nclens.workflow.stages.draw import experiment_inputs, read_tables

        entry = self._experiment(
            f"figure {name}", {key: name in known for key, known in self._figures.items()}, experiment
        )
        if entry is None:
            raise ValueError(f"{self._what} has no figure {name}; it has: {listed(self.figures)}")
        study, files = self.checked, self.files
        own = specs.draw_own(study, entry.experiment, name) if name in study.own_figures else None
        drawn = next(one for one in (own or specs.draw(study)).experiments if one.experiment == entry.experiment)
        paths = {table: files.theory(table) for table in ("dynamics", "predictions", "regression", "nc0")}
        paths |= {"metrics": files.metrics, "theory": files.theory("ufm")}
        for path in paths.values():
            self.require(path)
        found = {
            key: table[table["experiment"] == entry.experiment] if "experiment" in table else table
            for key, table in read_tables(paths).items()
        }
        inputs = experiment_inputs(drawn, found, files)
        return draw_own(own.own_figures[0], inputs) if own else draw_figure(name, inputs)

    # --- networks, features and data ---------------------------------------------------------------------------------

    def network(
        self, loss: str, *, seed: int | None = None, epoch: int | None = None, experiment: str | None = None
    ) -> Network:
        """Return a network with the weights of a snapshot, in evaluation mode, on the CPU.

        It takes normalised inputs, as `data` returns them. `network.backbone(inputs)` are the features (N, d),
        `network.head` is the linear layer that follows, `network(inputs)` are the logits (N, K).

        Args:
            loss: name of the loss.
            seed: of the run; by default the first of the experiment.
            epoch: of the snapshot; by default the last.
            experiment: that has the loss.

        Raises:
            ValueError: the study has no such loss, seed, epoch or experiment (names those that it has), several
                experiments have the loss, the features were recorded without a network, or the file of a network of
                the user's own is not found.
            FileError: the run is not finished, or a file is damaged.
        """
        run, entry = self._run(loss, seed, experiment)
        return self._network(run, entry, self._epoch(run.snapshots, epoch))

    def features(
        self,
        loss: str,
        *,
        seed: int | None = None,
        epoch: int | None = None,
        split: str = "train",
        experiment: str | None = None,
    ) -> Features:
        """Return features, labels and logits of a split: those stored, else from the snapshot and the prepared data.

        Args:
            loss, seed, epoch, experiment: as of `network`.
            split: `train`, `test` or, where the data have it, `val`.

        Raises:
            ValueError, FileError: as of `network`, or an unknown split.
        """
        run, entry = self._run(loss, seed, experiment)
        chosen = self._epoch(run.snapshots, epoch)
        self._split(entry.dataset, split)
        tensors = self._stored(run, chosen)
        if tensors is not None and f"{split}.sampled" not in tensors:
            return Features(*(tensors[f"{split}.{name}"] for name in ("features", "targets", "logits")))
        from nclens.training.loop import extract_features
        from nclens.training.passes import Passes
        from nclens.workflow.agreement import nc1_of

        network = self._network(run, entry, chosen)
        placed = self._placed(entry.dataset, split, measured=True)
        passes = Passes(network, self._placed(entry.dataset, "train"), nc1_of)
        features, logits = extract_features(network, placed, passes.batch_size, passes.choose())
        return Features(features, placed.of_samples(placed.targets).cpu(), logits)

    def data(self, split: str = "train", *, dataset: str | None = None) -> Data:
        """Return a split of a prepared data set, normalised, as the study's networks take it.

        Args:
            split: `train`, `test` or, where the data have it, `val`.
            dataset: one of the configuration's `datasets`; may be left out where there is one.

        Raises:
            ValueError: the study has no such data set or split; names those that it has.
            FileError: the data have not been prepared, or are damaged.
        """
        if split in self._config["datasets"]:
            raise ValueError(f"split = {split!r}: is a data set, which `dataset` chooses: data(dataset={split!r})")
        chosen = self._dataset(dataset)
        self._split(chosen, split)
        placed = self._placed(chosen, split)
        return Data(placed.normalise(placed.inputs[:]), placed.targets)

    def manifest(self, dataset: str | None = None) -> dict[str, Any]:
        """Return what a prepared data set is: source, licence, sizes, names of classes or targets, mean, std.

        Raises:
            ValueError, FileError: as of `data`.
        """
        return self._manifest(self._dataset(dataset))

    # --- elsewhere ---------------------------------------------------------------------------------------------------

    def to_wandb(self, project: str | None = None, entity: str | None = None) -> list[str]:
        """Log the study to Weights & Biases: a run for each of its runs, and one with its figures and verdicts.

        Parameters and metrics are named as in MLflow; `step` is the epoch. A run's id depends on its content alone, and
        a run that is there is not logged again. With `WANDB_MODE=offline` the runs are written to the folder `wandb`.
        Runs of other studies are left out.

        Args:
            project: by default the study's name.
            entity: user or team; by default the account's.

        Returns:
            the ids of the runs that were logged, empty where all were there.

        Raises:
            ImportError: the extra `wandb` is not installed.
            FileError: the study has not run to its end, or its verdicts are older than its measurements; names the
                command.
            ConnectionError: Weights & Biases refuses, for lack of an account or a connection; says how to go without.
        """
        _require("wandb", "to_wandb")
        from nclens.workflow.finished.wandb import log

        return log(self, project or self.name, entity)

    def to_tensorboard(self, folder: str | Path) -> Path:
        """Write the study for TensorBoard: a run for each of its runs, and one with its figures and verdicts.

        Parameters and metrics are named as in MLflow; `step` is the epoch. Runs of other studies are left out.

        Args:
            folder: a new one, or one that this method has written of the same study, which is then replaced as a whole.

        Returns:
            the folder.

        Raises:
            ImportError: the extra `tensorboard` is not installed.
            ValueError: the folder is empty, or no path.
            FileError: the folder has other files, it cannot be written, or the study has not run to its end or its
                verdicts are older than its measurements.
        """
        _require("tensorboard", "to_tensorboard")
        from nclens.workflow.finished.tensorboard import write

        return write(self, _folder("folder", folder))

    # --- within ------------------------------------------------------------------------------------------------------

    @property
    def _what(self) -> str:
        return f"the study {self.name}"

    @cached_property
    def _experiments(self) -> dict[str, ResolvedExperiment]:
        return experiments_of(self._config)

    @cached_property
    def _figures(self) -> dict[str, list[str]]:
        return {name: list(entry["figures"]) for name, entry in self._config["experiments"].items()}

    def _epochs_taken_up(self) -> dict[str, list[int]]:
        """Return the epochs of finished networks trained elsewhere, whose files may be gone, by their paths."""
        found = {}
        for name, entry in self._config["experiments"].items():
            known = self._experiments[name]
            for loss, patterns in entry.get("runs", {}).items():
                for seed, pattern in patterns.items():
                    run = self.files.run(run_path(known.dataset, known.models[loss], loss, seed))
                    if run.run.is_file():
                        found[pattern] = snapshots_of(run)
        return found

    def require(self, path: Path) -> None:
        """Refuse a missing file, which the study has at its end.

        Raises:
            FileError: names it, and the command that makes it.
        """
        if not path.is_file():
            raise FileError(f"{path} is missing: the study has not run to its end; `{self.command}` finishes it")

    def require_current(self) -> None:
        """Refuse a study that has not run to its end, or whose verdicts are older than its measurements.

        Raises:
            FileError: names the command that finishes it.
        """
        for path in (self.files.metrics, self.files.claims, self.files.report):
            self.require(path)
        check_current(self.files, self.command)

    def _read(self, table: tables.Table, path: Path, **options: Any) -> pd.DataFrame:
        self.require(path)
        found = tables.read(table, path, **options)
        # Names as text: groups of categories contain those that a table has no rows of.
        return found.astype({name: str for name in found if isinstance(found[name].dtype, pd.CategoricalDtype)})

    def _experiment(self, what: str, has: Mapping[str, bool], experiment: str | None) -> ResolvedExperiment | None:
        """Return the experiment that has something, None where none has it."""
        having = [name for name, holds in has.items() if holds]
        if experiment is None and len(having) > 1:
            raise ValueError(f"{what} is in several experiments; choose one by `experiment`: {listed(having)}")
        if not having:
            return None
        if experiment is not None and experiment not in self._experiments:
            raise ValueError(f"experiment = {experiment!r}: {self._what} has: {listed(self._experiments)}")
        chosen = having[0] if experiment is None else experiment
        if chosen not in having:
            raise ValueError(f"experiment = {chosen!r}: it has no {what}; allowed: {listed(having)}")
        return self._experiments[chosen]

    def _run(self, loss: str, seed: int | None, experiment: str | None) -> tuple[RunFolder, ResolvedExperiment]:
        has = {name: loss in entry.losses for name, entry in self._experiments.items()}
        entry = self._experiment(f"loss {loss}", has, experiment)
        if entry is None:
            known = dict.fromkeys(name for one in self._experiments.values() for name in one.losses)
            raise ValueError(f"{self._what} has no loss {loss}; it has: {listed(known)}")
        chosen = _one_of("seed", entry.seeds[0] if seed is None else seed, entry.seeds)
        return self.files.run(run_path(entry.dataset, entry.models[loss], loss, chosen)), entry

    def _epoch(self, snapshots: Path, epoch: int | None) -> int:
        self.require(snapshots)
        epochs = epochs_of(snapshots, "train")
        return _one_of("epoch", epochs[-1] if epoch is None else epoch, epochs)

    def _dataset(self, dataset: str | None) -> str:
        known = list(self._config["datasets"])
        if dataset is None and len(known) > 1:
            raise ValueError(f"{self._what} has several data sets; choose one by `dataset`: {listed(known)}")
        return _one_of("dataset", known[0] if dataset is None else dataset, known)

    def _split(self, dataset: str, split: str) -> None:
        from nclens.data.tasks import split_names

        _one_of("split", split, split_names(self._manifest(dataset)))

    def _manifest(self, dataset: str) -> dict[str, Any]:
        self.require(self.files.manifest(dataset))
        return read_manifest(self.files.manifest(dataset))

    def _placed(self, dataset: str, split: str, measured: bool = False) -> Split:
        """Return a split on the CPU, or what is measured of it."""
        import torch

        from nclens.data.prepared import measured_split, place_split

        self.require(self.files.data(dataset))
        tensors, _ = read_tensors(self.files.data(dataset), "prepare")
        place = measured_split if measured else place_split
        return place(tensors, self._manifest(dataset), torch.device("cpu"), split)

    def _stored(self, run: RunFolder, epoch: int) -> dict[str, Tensor] | None:
        """Return the features of an epoch that were kept, or that were recorded without a network."""
        if run.features.is_file() and epoch in epochs_of(run.features, "extract"):
            return read_epoch(run.features, epoch, "extract")[0]
        if read_json(run.run, "train")["spec"]["model"] is None:
            from nclens.workflow.build.checkpoints import with_logits

            return with_logits(read_epoch(run.snapshots, epoch, "ingest")[0])
        return None

    def _network(self, run: RunFolder, entry: ResolvedExperiment, epoch: int) -> Network:
        import torch

        from nclens.models import place_network
        from nclens.workflow.build.models import network_of

        self.require(run.run)
        model = read_json(run.run, "train")["spec"]["model"]
        if model is None:
            raise ValueError(f"{run.name}: the features were recorded without a network; `features` returns them")
        manifest = self._manifest(entry.dataset)
        with torch.random.fork_rng([]):  # weights are drawn before they are read
            network = network_of(self._found(specs.flat(specs.Entry(**model))), manifest)
        network = place_network(network, manifest["shape"], torch.device("cpu"))
        read_weights(network, run.snapshots, epoch)
        return network.eval()

    def _found(self, model: dict[str, Any]) -> dict[str, Any]:
        """Return a model's entry with the path of the user's own file, as seen from the current folder."""
        if "network" in model:  # behind its own preprocessing
            return model | {"network": self._found(model["network"])}
        if "function" not in model:
            return model
        module = f"{model['function'].partition(':')[0].replace('.', '/')}.py"
        places = [Path(model["file"]), *(Path(folder) / module for folder in self._folders)]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            searched = listed(dict.fromkeys(map(str, places)))
            raise ValueError(
                f"the file of the model {model['function']} is not found; it is looked for at {searched}; name its "
                "folder: load_study(folder, folders=[...])"
            )
        return model | {"file": str(file)}


def _folder(key: str, written: object) -> Path:
    """Return a folder as a path."""
    if not isinstance(written, str | os.PathLike) or not str(written):
        raise ValueError(f"{key} = {written!r}: allowed: the path of a folder, such as 'results/digits'")
    try:
        return Path(written).expanduser()
    except RuntimeError as error:  # ~ of a user that there is not
        raise ValueError(f"{key} = {written!r}: {error}") from None


def _require(package: str, method: str) -> None:
    """Refuse a method whose extra, of the package's name, is not installed."""
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        needs = f"{method} needs the package {package}, which is not installed"
        raise ImportError(f"{needs}: pip install 'nclens[{package}]'", name=package) from error


def _one_of(key: str, value: Any, allowed: Sequence[Any]) -> Any:
    """Return a value as it is written among those allowed."""
    if value not in allowed:
        raise ValueError(f"{key} = {value!r}: allowed: {listed(allowed)}")
    return allowed[allowed.index(value)]
