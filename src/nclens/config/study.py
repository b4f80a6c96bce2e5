"""A whole study: its runs, its names and colours, and what each step of the workflow uses of it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from nclens.config.datasets import CustomData, DataEntry, Files
from nclens.config.experiments import (
    CLASSIFICATION_FIGURES,
    REGULARISED_FIGURES,
    SWEEP_FIGURES,
    Experiment,
    Measure,
    Theory,
    Track,
)
from nclens.config.fields import Closed, Name, Positive
from nclens.config.losses import CrossEntropy, LabelSmoothing, LossEntry
from nclens.config.models import ModelEntry, TorchvisionModel

# Okabe and Ito's palette, told apart by colour-blind readers; yellow is left out because it is unreadable on white.
PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"),
    # After those, dark ones of Tol's.
    *("#882255", "#44AA99", "#999933", "#332288", "#AA4499", "#661100"),
)


def _no_file(folder: str) -> str:
    """Refuse a folder of raw data that is a file; one that is not there yet is made by the first download."""
    if Path(folder).expanduser().is_file():
        raise PydanticCustomError("folder", "is a file; it must be the folder of the raw data")
    return folder


@dataclass(frozen=True)
class Run:
    """One training run: its keys, and the folder they make."""

    experiment: str
    dataset: str
    model: str
    loss: str
    seed: int

    @property
    def path(self) -> str:
        """Folder of the run below the study's: dataset/model/loss/seedN."""
        return f"{self.dataset}/{self.model}/{self.loss}/seed{self.seed}"


class Study(Closed):
    """A complete study: data sets, models, losses, and the experiments that combine them."""

    study: Name
    """Name of the study and of its folder below results/."""
    title: str = ""
    """One line that the report opens with."""
    checkpoint_minutes: Positive = 5.0
    """Minutes between checkpoints from which an interrupted run goes on; also written on SIGTERM and Ctrl-C."""
    data_dir: Annotated[str, StringConstraints(min_length=1), AfterValidator(_no_file)] = "data"
    """Folder of raw data, shared by all studies, below the one that Snakemake runs in; moving it reruns nothing."""
    datasets: dict[Name, DataEntry] = Field(min_length=1)
    models: dict[Name, ModelEntry] = Field(min_length=1)
    losses: dict[Name, LossEntry] = Field(min_length=1)
    experiments: dict[Name, Experiment] = Field(min_length=1)
    theory: Theory = Theory()
    measure: Measure = Measure()
    track: Track = Track()

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen: dict[tuple[str, str, str], str] = {}
        for name, experiment in self.experiments.items():
            where = f"experiments.{name}"
            self._refer(f"{where}.dataset", experiment.dataset, "datasets", self.datasets)
            self._refer(f"{where}.model", experiment.model, "models", self.models)
            for loss in experiment.losses:
                self._refer(f"{where}.losses", loss, "losses", self.losses)
                key = (experiment.dataset, experiment.model, loss)
                if key in seen:
                    raise PydanticCustomError(
                        "overlap",
                        "experiments.{name} repeats {key} of experiments.{other}: their runs would overwrite each "
                        "other; give the data set, model or loss another entry name",
                        {"name": name, "key": "/".join(key), "other": seen[key]},
                    )
                seen[key] = name
            if experiment.baseline is not None and experiment.baseline not in experiment.losses:
                raise PydanticCustomError(
                    "baseline",
                    "{where}.baseline = {value}: must be one of the experiment's losses: {allowed}",
                    {"where": where, "value": experiment.baseline, "allowed": ", ".join(experiment.losses)},
                )
            self._check_data(where, experiment)
        return self

    def _check_data(self, where: str, experiment: Experiment) -> None:
        """Refuse what the data set does not allow, where that is known before it is read."""
        data = self.datasets[experiment.dataset]
        if isinstance(data, CustomData):
            return
        samples, channels = data.train_samples, data.image_channels
        context = {"where": where, "dataset": experiment.dataset}
        if samples is not None and experiment.training.batch_size > samples:
            raise PydanticCustomError(
                "batch",
                "{where}.training.batch_size = {value}: must be at most the {n} training samples of {dataset}",
                context | {"value": experiment.training.batch_size, "n": samples},
            )
        if channels not in (None, 3) and isinstance(self.models[experiment.model], TorchvisionModel):
            raise PydanticCustomError(
                "channels",
                "{where}.model = {model}: a classifier of torchvision takes images of 3 channels, and those of "
                "{dataset} have {channels}; allowed: a model of another `name`",
                context | {"model": experiment.model, "channels": channels},
            )

    @staticmethod
    def _refer(where: str, value: str, table: str, known: Mapping[str, Any]) -> None:
        if value not in known:
            raise PydanticCustomError(
                "reference",
                "{where} = {value}: no such entry in `{table}`; it has: {known}",
                {"where": where, "value": value, "table": table, "known": ", ".join(known)},
            )

    @property
    def root(self) -> str:
        """Folder of everything that the study makes."""
        return f"results/{self.study}"

    def runs(self, experiment: str | None = None) -> Iterator[Run]:
        """Yield the runs of the study, or of one of its experiments, in the configuration's order."""
        for name, entry in self.experiments.items():
            if experiment in (None, name):
                for loss in entry.losses:
                    for seed in entry.seeds:
                        yield Run(name, entry.dataset, entry.model, loss, seed)

    def label(self, loss: str) -> str:
        """Name of a loss entry in figures and tables."""
        entry = self.losses[loss]
        if entry.label:
            return entry.label
        if isinstance(entry, LabelSmoothing):
            return f"LS (δ = {entry.smoothing:g})"
        return "CE" if isinstance(entry, CrossEntropy) else loss

    def colour(self, loss: str) -> str:
        """Colour of a loss entry, #rrggbb, the same in every figure and in the MLflow UI."""
        return self.losses[loss].colour or PALETTE[list(self.losses).index(loss) % len(PALETTE)]

    def baseline(self, experiment: str) -> str | None:
        """The loss that the others of an experiment are compared with, if it has one."""
        entry = self.experiments[experiment]
        plain = (loss for loss in entry.losses if isinstance(self.losses[loss], CrossEntropy))
        return entry.baseline or next(plain, None)

    def figures(self, experiment: str) -> list[str]:
        """Return the figures of an experiment: those it names, or all that it has something to show in."""
        entry = self.experiments[experiment]
        if entry.figures is not None:
            return list(entry.figures)
        sweep = SWEEP_FIGURES if len(set(self._smoothings(experiment).values())) > 2 else ()
        regularised = REGULARISED_FIGURES if entry.training.ufm_regularised else ()
        return [*CLASSIFICATION_FIGURES, *sweep, *regularised]

    def features_mb(self, run: Run, manifest: Mapping[str, Any]) -> int:
        """Return the disk that the features of all snapshots of a run take, in MB (10^6 bytes), rounded up.

        Features and logits are float32, targets int64. A feature dimension that is not known is taken for a large one.
        """
        width = (self.models[run.model].dim or 2048) + len(manifest["classes"])
        samples = manifest["train"] + manifest["test"]
        snapshots = len(self.experiments[run.experiment].snapshot_epochs)
        return math.ceil(snapshots * samples * (4 * width + 8) / 10**6)

    # What each step uses. A leaf that is not named here does not make the step run again.

    def prepare_spec(self, dataset: str) -> dict[str, Any]:
        """Return what `prepare` uses."""
        entry = self.datasets[dataset]
        chosen = entry.specification() if isinstance(entry, Files) else self._entry(entry)
        return {"dataset": dataset, "entry": chosen}

    def train_spec(self, run: Run) -> dict[str, Any]:
        """Return what `train` uses: the full specification of a run."""
        experiment = self.experiments[run.experiment]
        return {
            "dataset": run.dataset,
            "model": {"entry": run.model, **self._entry(self.models[run.model], leave_out={"dim"})},
            "loss": {"entry": run.loss, **self._entry(self.losses[run.loss], leave_out={"label", "colour"})},
            "seed": run.seed,
            "training": experiment.training.model_dump(mode="json", exclude={"ufm_regularised"}),
            "penalties": self._penalties() if experiment.training.ufm_regularised else None,
            "snapshots": experiment.snapshot_epochs,
        }

    def extract_spec(self, run: Run) -> dict[str, Any]:
        """Return what `extract` uses."""
        experiment = self.experiments[run.experiment]
        return {
            "dataset": run.dataset,
            "model": {"entry": run.model, **self._entry(self.models[run.model], leave_out={"dim"})},
            "snapshots": experiment.snapshot_epochs,
            "device": experiment.training.device,
        }

    def measure_spec(self, run: Run) -> dict[str, Any]:
        """Return what `measure` uses."""
        return {"snapshots": self.experiments[run.experiment].snapshot_epochs, **self.measure.model_dump(mode="json")}

    def theory_spec(self) -> dict[str, Any]:
        """Return what `theory` uses: one item per experiment and loss that has a closed form."""
        return {
            "lambdas": self.theory.model_dump(mode="json"),
            "losses": [
                {
                    "experiment": name,
                    "dataset": entry.dataset,
                    "model": entry.model,
                    "loss": loss,
                    "smoothing": smoothing,
                    "dim": self.models[entry.model].dim,
                }
                for name, entry in self.experiments.items()
                for loss, smoothing in self._smoothings(name).items()
            ],
        }

    def predict_spec(self) -> list[dict[str, Any]]:
        """Return what `predict` uses: the experiments, their smoothings, and whether their penalties are explicit."""
        return [
            {
                "name": name,
                "dataset": entry.dataset,
                "model": entry.model,
                "dim": self.models[entry.model].dim,
                "regularised": entry.training.ufm_regularised,
                "losses": self._smoothings(name),
                "seeds": list(entry.seeds),
                "epochs": entry.training.epochs,
            }
            for name, entry in self.experiments.items()
        ]

    def collect_spec(self) -> list[dict[str, Any]]:
        """Return what `collect` uses: which runs there are."""
        return [
            {
                "name": name,
                "dataset": entry.dataset,
                "model": entry.model,
                "losses": list(entry.losses),
                "seeds": list(entry.seeds),
            }
            for name, entry in self.experiments.items()
        ]

    def judge_spec(self) -> list[dict[str, Any]]:
        """Return what `judge` uses: which losses are compared with which."""
        return [
            {
                "name": name,
                "dataset": entry.dataset,
                "model": entry.model,
                "baseline": self.baseline(name),
                "compared": [loss for loss in entry.losses if isinstance(self.losses[loss], LabelSmoothing)],
                "seeds": list(entry.seeds),
                "epochs": entry.training.epochs,
            }
            for name, entry in self.experiments.items()
        ]

    def draw_spec(self) -> list[dict[str, Any]]:
        """Return what `draw` uses: the experiments with the looks of their losses."""
        return [
            {
                "name": name,
                "dataset": entry.dataset,
                "model": entry.model,
                "losses": {loss: {"label": self.label(loss), "colour": self.colour(loss)} for loss in entry.losses},
                "baseline": self.baseline(name),
                "seeds": list(entry.seeds),
                "epochs": entry.training.epochs,
                "figures": self.figures(name),
                "smoothings": self._smoothings(name),
            }
            for name, entry in self.experiments.items()
        ]

    def report_spec(self, command: str) -> dict[str, Any]:
        """Return what `report` uses; `command` is what reproduces the study."""
        return {"name": self.study, "title": self.title, "command": command, "experiments": self.draw_spec()}

    def track_spec(self, run: Run) -> dict[str, Any]:
        """Return what `track` uses for a run."""
        return {
            "study": self.study,
            "run": run.path,
            "experiment": run.experiment,
            "dataset": run.dataset,
            "model": run.model,
            "loss": run.loss,
            "seed": run.seed,
            "label": self.label(run.loss),
            "colour": self.colour(run.loss),
            "tensors": self.track.tensors,
            "snapshots": self.experiments[run.experiment].snapshot_epochs,
            "keep_features": self.experiments[run.experiment].keep_features,
        }

    def track_study_spec(self) -> dict[str, Any]:
        """Return what `track` uses for the study: its name, title and files."""
        theory = [f"theory/{name}.csv" for name in ("ufm", "dynamics", "predictions", "effective")]
        figures = [
            f"figures/{name}_{figure}.{ending}"
            for name in self.experiments
            for figure in self.figures(name)
            for ending in ("png", "pdf", "csv")
        ]
        files = ["study.yaml", "claims.csv", "claims.md", "metrics.parquet", "report.html", *theory, *figures]
        return {"study": self.study, "title": self.title, "files": files}

    def resolved(self) -> dict[str, Any]:
        """Return the whole study with every default written out, as plain data.

        `data_dir` is left out: where raw data lie is a matter of the machine, and nothing runs again when they move.
        """
        resolved = self.model_dump(mode="json", exclude={"data_dir"})
        for name, experiment in self.experiments.items():
            resolved["experiments"][name]["snapshots"] = experiment.snapshot_epochs
            resolved["experiments"][name]["baseline"] = self.baseline(name)
            resolved["experiments"][name]["figures"] = self.figures(name)
        for name in self.losses:
            resolved["losses"][name] |= {"label": self.label(name), "colour": self.colour(name)}
        for table in ("datasets", "models", "losses"):
            for entry in resolved[table].values():
                entry.pop("file", None)
        return resolved

    def _penalties(self) -> dict[str, float]:
        theory = self.theory
        lambda_h_total = theory.lambda_h * theory.lambda_h_samples
        return {"lambda_w": theory.lambda_w, "lambda_h_total": lambda_h_total, "lambda_b": theory.lambda_b}

    def _smoothings(self, experiment: str) -> dict[str, float]:
        """Return the smoothing of each loss of an experiment that has a closed form; 0 is cross entropy."""
        entries = {loss: self.losses[loss] for loss in self.experiments[experiment].losses}
        plain = {loss: entry for loss, entry in entries.items() if isinstance(entry, CrossEntropy | LabelSmoothing)}
        return {loss: getattr(entry, "smoothing", 0.0) for loss, entry in plain.items()}

    @staticmethod
    def _entry(entry: Closed, leave_out: set[str] | None = None) -> dict[str, Any]:
        return entry.model_dump(mode="json", exclude=leave_out)
