"""Every path of a study's results, once: below R, the folder of the study, and below RUN, that of a run.

The parts of a path may be wildcards of the workflow, such as `{dataset}`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nclens.study.study import Run

#: What a table of the theory is called.
THEORY = ("ufm", "dynamics", "regression", "predictions", "effective", "nc0")
#: The forms in which a figure is written: three pictures, and the numbers that they show.
ENDINGS = ("png", "pdf", "svg", "csv")
#: Name of the record of what MLflow holds, of a run and of the study.
RECORD = "mlflow.json"
#: The variable with the number of tasks of a job that share a training; the rule sets it.
TASKS = "NCLENS_TASKS"
#: The variable with the minutes between two checkpoints of a training; the plan sets it.
CHECKPOINT_MINUTES = "NCLENS_CHECKPOINT_MINUTES"


def loss_path(dataset: str, model: str, loss: str) -> str:
    """Return the path of a loss's runs below the study's folder."""
    return f"{dataset}/{model}/{loss}"


def run_path(dataset: str, model: str, loss: str, seed: int | str) -> str:
    """Return the path of a run below the study's folder."""
    return f"{loss_path(dataset, model, loss)}/seed{seed}"


def path_of(run: "Run") -> str:
    """Return the path of a run of a study below the study's folder."""
    return run_path(run.dataset, run.model, run.loss, run.seed)


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, RUN."""

    folder: Path

    @property
    def snapshots(self) -> Path:
        """Weights after each epoch of a snapshot."""
        return self.folder / "snapshots.safetensors"

    @property
    def features(self) -> Path:
        """Features, logits and head of the snapshots; with `keep_features: last`, of the last one.

        With `none` statistics in place of features, and the features of some samples.
        """
        return self.folder / "features.safetensors"

    @property
    def earlier_features(self) -> Path:
        """Those of the other snapshots, deleted once they are measured; empty where all are kept."""
        return self.folder / "earlier_features.safetensors"

    @property
    def name(self) -> str:
        """What the run is called in messages: its path below the study's folder."""
        return "/".join(self.folder.parts[-4:])

    @property
    def study(self) -> "StudyFolder":
        """The folder of the study that the run belongs to."""
        return StudyFolder(self.folder.absolute().parents[3])

    @property
    def history(self) -> Path:
        """Statistics of the training, epoch by epoch."""
        return self.folder / "history.csv"

    @property
    def run(self) -> Path:
        """What was run: specification, versions, device, time."""
        return self.folder / "run.json"

    @property
    def metrics(self) -> Path:
        """What was measured at each snapshot."""
        return self.folder / "metrics.csv"

    @property
    def film(self) -> Path:
        """A sample of the features of each snapshot, projected."""
        return self.folder / "film.safetensors"

    @property
    def probes(self) -> Path:
        """What the probes found."""
        return self.folder / "probes.csv"

    @property
    def hypotheses(self) -> Path:
        """What the network translates sentences to, beside their references."""
        return self.folder / "hypotheses.json"

    @property
    def record(self) -> Path:
        """What MLflow holds of the run."""
        return self.folder / RECORD

    @property
    def lock(self) -> Path:
        """The lock of the stages that write the run."""
        return self.folder / ".lock"

    @property
    def training_lock(self) -> Path:
        """The lock of a training; where several tasks of a job share it, each after the first has its own."""
        task = os.environ.get("SLURM_PROCID", "0") if TASKS in os.environ else "0"
        return self.lock if task == "0" else self.folder / f".lock.{task}"

    @property
    def probe_lock(self) -> Path:
        """The lock of the run's probes, which may run beside the other stages."""
        return self.folder / ".probe.lock"

    @property
    def work(self) -> "RunFolder":
        """What an unfinished training has written."""
        return RunFolder(self.folder / ".work")

    def snapshot(self, epoch: int) -> Path:
        """Weights after an epoch; it lies in `work`."""
        return self.folder / "snapshots" / f"epoch{epoch}.safetensors"

    @property
    def checkpoint(self) -> Path:
        """From where an interrupted training goes on; it lies in `work`."""
        return self.folder / "checkpoint.safetensors"

    @property
    def progress(self) -> Path:
        """How far a training is, for the terminal's view; it lies in `work`."""
        return self.folder / "progress.json"


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study, R.

    `sources` has the folders of runs that another study has made: the path of a loss's runs here -> their folder there.
    """

    root: Path
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)

    def run(self, path: str) -> RunFolder:
        """Return the folder of a run, named as by `run_path`."""
        loss, _, seed = path.rpartition("/")
        place = self.sources.get(loss)
        return RunFolder(self.root / path if place is None else Path(place, seed))

    def data(self, dataset: str) -> Path:
        """A prepared data set."""
        return self.root / "data" / f"{dataset}.safetensors"

    def manifest(self, dataset: str) -> Path:
        """What a prepared data set is."""
        return self.root / "data" / f"{dataset}.json"

    def theory(self, name: str) -> Path:
        """A table of the theory, one of `THEORY`."""
        return self.root / "theory" / f"{name}.csv"

    @property
    def figures(self) -> Path:
        """The folder of all figures."""
        return self.root / "figures"

    def figure(self, experiment: str, stem: str, ending: str) -> Path:
        """A figure of an experiment, in one of `ENDINGS`."""
        return self.drawn(f"{experiment}_{stem}", ending)

    def drawn(self, name: str, ending: str) -> Path:
        """A figure by the experiment and its name, joined by _."""
        return self.figures / f"{name}.{ending}"

    def log(self, step: str, of: str = "") -> Path:
        """What a job printed: of a step of the study, or of one data set or run."""
        return self.root / "logs" / (f"{step}/{of}.log" if of else f"{step}.log")

    def benchmark(self, step: str, of: str = "") -> Path:
        """What Snakemake measured of a job; named as its log."""
        return self.root / "benchmarks" / (f"{step}/{of}.tsv" if of else f"{step}.tsv")

    def lock(self, step: str) -> Path:
        """The lock of a step of the study."""
        return self.root / ".locks" / step

    @property
    def digests(self) -> Path:
        """Digests of the user's data files, which are read again only when they change."""
        return self.root / ".digests.json"

    @property
    def reused(self) -> Path:
        """The runs of other studies that this one uses, with the digests of their files."""
        return self.root / "reused.json"

    @property
    def resolved(self) -> Path:
        """The study with every default written out."""
        return self.root / "study.yaml"

    @property
    def metrics(self) -> Path:
        """The one table of all measurements."""
        return self.root / "metrics.parquet"

    @property
    def claims(self) -> Path:
        """The verdicts, with every measure behind them."""
        return self.root / "claims.csv"

    @property
    def claims_page(self) -> Path:
        """The verdicts in Markdown."""
        return self.root / "claims.md"

    @property
    def specifications(self) -> Path:
        """The effects of the headline claims by every way to measure them."""
        return self.root / "specifications.csv"

    @property
    def judged(self) -> Path:
        """What judged: version, digest of the code, git revision."""
        return self.root / "judged.json"

    @property
    def losses(self) -> Path:
        """The losses side by side."""
        return self.root / "tables" / "losses.csv"

    @property
    def report(self) -> Path:
        """The study's page."""
        return self.root / "report.html"

    @property
    def setup(self) -> Path:
        """The experiment that MLflow has for the study."""
        return self.root / "logs" / "track_setup.json"

    @property
    def record(self) -> Path:
        """What MLflow holds of the study."""
        return self.root / RECORD


@dataclass(frozen=True)
class AtlasFolder:
    """The folder that an atlas of studies is written to."""

    root: Path

    @property
    def page(self) -> Path:
        """Every claim over all studies."""
        return self.root / "atlas.html"

    @property
    def table(self) -> Path:
        """The same as a table."""
        return self.root / "atlas.csv"

    @property
    def log(self) -> Path:
        """What the rule `atlas` printed."""
        return self.root / "atlas.log"


def is_judged(folder: StudyFolder) -> bool:
    """Return whether the page of a study, and so its verdicts, are of the measurements that are there."""
    table, page = folder.metrics, folder.report
    return table.is_file() and page.is_file() and page.stat().st_mtime >= table.stat().st_mtime
