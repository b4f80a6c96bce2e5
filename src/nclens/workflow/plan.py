"""What the workflow plans for a study: its runs, their files, the code that makes them, and what their jobs need."""

import json
import re
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from nclens.study.experiments import Experiment
from nclens.study.imported import Imported
from nclens.study.kept_features import features_mb
from nclens.study.reading import ConfigError
from nclens.study.recipes import recipe
from nclens.study.streams import is_streamed
from nclens.study.study import Run, Study
from nclens.workflow import specs
from nclens.workflow.needs import Needs, has_gpu, measuring_needs, probing_needs, training_needs
from nclens.workflow.paths import CHECKPOINT_MINUTES, ENDINGS, TASKS, THEORY, RunFolder, StudyFolder, is_judged, path_of
from nclens.workflow.provenance import code_digest
from nclens.workflow.reused import digests_of, reused_files, sources_of
from nclens.workflow.streams import VARIABLE
from nclens.workflow.user_files import MISSING, Digests, checkpoints_digest

#: The most ended runs of an experiment that are read for what the next one needs.
MOST_RECORDS = 8
#: What `extract` makes in place of features, found by name.
STATISTICS = "nclens.workflow.build.statistics:statistics_of"
#: What reads the images of a stream, and what trains on several devices, found by name.
STREAM, PARALLEL = "nclens.data.stream", "nclens.training.parallel"


class Plan:
    """The runs of a study by their paths, and what each step reads, writes and needs."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.sources = sources_of(study)
        self.folder = StudyFolder(Path(study.root), self.sources)
        self.runs = {path_of(run): run for run in study.runs()}
        self._digests = Digests(self.folder.digests)
        self._codes: dict[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What jobs find in their environment, as none of it changes a result.

        That is how often a run is saved, where raw data lie, and where the files of streams are and how many processes
        read them.
        """
        streams = {}
        for name, entry in self.study.datasets.items():
            if is_streamed(entry):
                root = Path(self.study.data_dir).expanduser() / Path(entry.path).expanduser()
                streams[name] = {"root": str(root), "workers": entry.workers}
        return {
            CHECKPOINT_MINUTES: str(self.study.checkpoint_minutes),
            "NCLENS_DATA_DIR": self.study.data_dir,
            VARIABLE: json.dumps(streams),
        }

    @cached_property
    def pattern(self) -> str:
        """The regular expression that matches the study's runs."""
        return self._matching(self.study.experiments)

    @cached_property
    def trained(self) -> str:
        """The pattern of the runs that are trained."""
        return self._matching(name for name in self.study.experiments if not self.study.is_imported(name))

    @cached_property
    def imported(self) -> str:
        """The pattern of the runs that were trained elsewhere."""
        return self._matching(name for name in self.study.experiments if self.study.is_imported(name))

    @cached_property
    def probed(self) -> str:
        """The pattern of the runs that have probes."""
        return self._matching(name for name, entry in self.study.experiments.items() if entry.probes)

    def _matching(self, experiments: Iterable[str]) -> str:
        """Return the regular expression that matches the runs of some experiments and no others."""
        entries = (self.study.experiments[name] for name in experiments if self.study.experiments[name].own)
        return "|".join(map(_pattern, entries)) or "(?!)"

    def of(self, run: Run) -> RunFolder:
        """Return the folder of a run."""
        return self.folder.run(path_of(run))

    def experiment(self, run: Run) -> Experiment | Imported:
        """Return the experiment of a run."""
        return self.study.experiments[run.experiment]

    # --- files -------------------------------------------------------------------------------------------------------

    def data(self, run: Run) -> Path:
        """Return the prepared data set of a run."""
        return self.folder.data(run.dataset)

    def manifest(self, run: Run) -> Path:
        """Return the manifest of a run's data set."""
        return self.folder.manifest(run.dataset)

    @cached_property
    def earlier_features(self) -> list[Path]:
        """The features that are deleted once they are measured, of any run; none in a study that keeps all."""
        deletes = any(entry.keep_features == "last" for entry in self.study.experiments.values())
        return [self.folder.run("{run}").earlier_features] if deletes else []

    def features(self, run: Run) -> list[Path]:
        """Return the files of features that a run is measured from."""
        of, keeps_last = self.of(run), self.experiment(run).keep_features == "last"
        return [of.features, *([of.earlier_features] if keeps_last else [])]

    def probes(self, run: Run) -> list[Path]:
        """Return the table of a run's probes, if it has some."""
        return [self.of(run).probes] if self.experiment(run).probes else []

    def hypotheses(self, run: Run) -> list[Path]:
        """Return the translations of a run, if it makes some that are compared."""
        return [self.of(run).hypotheses] if path_of(run) in self._translations else []

    @cached_property
    def any_hypotheses(self) -> list[Path]:
        """The translations of any run that is probed; none in a study without."""
        return [self.folder.run("{run}").hypotheses] if self._translations else []

    @cached_property
    def _translations(self) -> set[str]:
        """The runs whose translations are compared."""
        compared = filter(self.study.translations_against, self.study.experiments)
        return {path_of(run) for name in compared for run in self.study.runs(name)}

    def teachers_snapshots(self, run: Run) -> list[Path]:
        """Return the snapshots of a run's teacher, if it has one."""
        teacher = self.study.teacher(run)
        return [] if teacher is None else [self.of(teacher).snapshots]

    def transfer_data(self, run: Run) -> list[Path]:
        """Return the data sets, with their manifests, that a run's probes transfer to."""
        names = self.study.transfer_datasets(run.experiment)
        return [path for name in names for path in (self.folder.data(name), self.folder.manifest(name))]

    def of_all(self, files: Callable[[Run], Any]) -> list[Path]:
        """Return a file, or files, of every run."""
        found = (files(run) for run in self.runs.values())
        return list(dict.fromkeys(path for made in found for path in (made if isinstance(made, list) else [made])))

    def features_of_arcs(self) -> list[Path]:
        """Return the last features of every run of the experiments that arcs are measured in."""
        wanted = filter(self.study.loss_of_arcs, self.study.experiments)
        return list(dict.fromkeys(self.of(run).features for name in wanted for run in self.study.runs(name)))

    def manifests(self) -> list[Path]:
        """Return the manifests of the data sets that the study trains on."""
        names = dict.fromkeys(entry.dataset for entry in self.study.experiments.values())
        return [self.folder.manifest(name) for name in names]

    def reused(self) -> list[Path]:
        """Return the record of the runs of other studies, where the study uses some."""
        return [self.folder.reused] if self.sources else []

    def reused_digests(self) -> dict[str, str]:
        """Return the digest of the files of each loss of another study; nothing depends on where they are."""
        return digests_of(reused_files(specs.reuse(self.study), self.folder, self._digests.of))

    def theory(self) -> list[Path]:
        """Return the tables of the theory."""
        return [self.folder.theory(name) for name in THEORY]

    def figures(self, *endings: str, own: bool = True) -> list[Path]:
        """Return the figures of every experiment, in all forms or some, with the user's own or without them."""
        return [
            self.folder.figure(name, figure, ending)
            for ending in endings or ENDINGS
            for name in self.study.experiments
            for figure in self.study.figures(name)
            if own or figure not in self.study.own_figures
        ]

    @cached_property
    def own_figures(self) -> dict[str, tuple[str, str]]:
        """The experiment and the name of each figure of the user's own, by both as in the names of its files."""
        drawn = [(name, figure) for name in self.study.experiments for figure in self.study.figures(name)]
        return {"_".join(keys): keys for keys in drawn if keys[1] in self.study.own_figures}

    @cached_property
    def drawn(self) -> str:
        """The pattern of the figures of the user's own, by experiment and name."""
        return "|".join(map(re.escape, self.own_figures)) or "(?!)"

    def films(self) -> list[Path]:
        """Return the films that the page shows: of each loss that of the first seed."""
        first = {name: min(entry.seeds) for name, entry in self.study.experiments.items()}
        shown = (run for name in first for run in self.study.runs(name) if run.seed == first[name])
        return list(dict.fromkeys(self.of(run).film for run in shown))

    def promised(self) -> list[Path]:
        """Return every file that the study promises: a missing one is made again."""
        folder = self.folder
        return [
            *(folder.resolved, folder.metrics, folder.claims, folder.claims_page, folder.specifications),
            *(folder.judged, folder.report, folder.losses, folder.record),
            *self.of_all(self._promised_of),
            *self.theory(),
            *self.figures(),
        ]

    def _promised_of(self, run: Run) -> list[Path]:
        of = self.of(run)
        data = [self.data(run), self.manifest(run), *self.transfer_data(run)]
        made = [of.snapshots, of.features, of.history, of.run, of.metrics, of.film, of.record, *self.probes(run)]
        return [*data, *made]

    def figure_texts(self, drawn: str) -> tuple[str, str]:
        """Return the title and the caption of a figure of the user's own in Snakemake's report."""
        known = self.study.figure(self.own_figures[drawn][1])
        # Snakemake takes `{max}` in a label for a wildcard, unless a space without width is in it.
        title = known.title.replace("{", "{\N{ZERO WIDTH SPACE}")
        return title, " ".join(filter(None, (known.caption, f"Source: {known.source}.")))

    # --- the user's own files ----------------------------------------------------------------------------------------

    def user_paths(self, dataset: str) -> dict[str, str]:
        """Return the paths of the configuration that a data set is read from, by key; nothing depends on them.

        `path` is relative to the folder of raw data, unless absolute.
        """
        return specs.user_paths(self.study.datasets[dataset])

    def user_digests(self, dataset: str) -> dict[str, str]:
        """Return the digests of the user's data files that a data set is read from, by the same keys.

        A prepared data set needs its files no more: those that are gone have the digest that its manifest has.
        """
        paths = self.user_paths(dataset)
        places = specs.user_places(paths, Path(self.study.data_dir))
        found = {key: self._digests.of(place) for key, place in places.items()}
        return {key: self._recorded(dataset, key) if found[key] == MISSING else found[key] for key in found}

    def _recorded(self, dataset: str, key: str) -> str:
        try:
            manifest = json.loads(self.folder.manifest(dataset).read_text(encoding="utf-8"))
            return str(manifest["files"][key])
        except (OSError, ValueError, KeyError, TypeError):
            return MISSING

    def checkpoints(self, run: Run) -> str:
        """Return the pattern of a run's files that were made elsewhere; nothing depends on where they are."""
        return self.study.imported(run.experiment).pattern(run.loss, run.seed)

    def checkpoints_digest(self, run: Run) -> str:
        """Return the digest of the contents of a run's files that were made elsewhere."""
        files = self.study.imported(run.experiment).files(run.loss, run.seed)
        return checkpoints_digest(files, self._digests.of)

    # --- code --------------------------------------------------------------------------------------------------------

    def code(self, stage: str, run: Run | None = None) -> str:
        """Return the digest of the code that a stage runs, or that it runs for one run.

        Of a training on several devices, what it runs on one device, a plus, and all that it runs: checkpoints pass
        between any numbers of devices.
        """
        used = self.code_used(stage, run)
        found = self._code_of(stage, used)
        if stage != "train" or run is None or self.devices(run) == 1:
            return found
        return f"{found}+{self._code_of(stage, used | {'modules': sorted([*used['modules'], PARALLEL])})}"

    def _code_of(self, stage: str, used: dict[str, Any]) -> str:
        # Most runs of a study use the same code.
        key = json.dumps([stage, used], default=str)
        if key not in self._codes:
            self._codes[key] = code_digest(stage, **used)
        return self._codes[key]

    def data_code(self, dataset: str) -> str:
        """Return the digest of the code that prepares a data set."""
        return code_digest("prepare", **self.data_code_used(dataset))

    def figure_code(self, drawn: str) -> str:
        """Return the digest of the code that draws a figure of the user's own, named as in `own_figures`."""
        return code_digest("draw", **self._used([(self.study.own_figures[self.own_figures[drawn][1]], "")]))

    def code_used(self, stage: str, run: Run | None = None) -> dict[str, Any]:
        """Return what a stage finds by name when it runs: the arguments of `code_digest` beside the stage."""
        modules = {function.partition(":")[0] for function in self._called(stage, run)}
        # What is done to the inputs of a network that was trained elsewhere.
        used = [self.experiment(network) for network in self._networks(stage, run)] if run else []
        modules |= {"nclens.models.preprocessing" for entry in used if getattr(entry, "preprocessing", None)}
        entries = self._entries(stage, run) if run else self._of_study(stage)
        if stage == "train" and run and (chosen := recipe(self.study.trained(run.experiment).training)):
            modules |= set(specs.Recipe(**chosen).modules)
        modules |= {"nclens.models.cosine" for entry, _ in entries if getattr(entry, "head", None) == "cosine"}
        if run and stage in ("train", "ingest", "extract", "probe"):
            read = [run.dataset, *(self.study.transfer_datasets(run.experiment) if stage == "probe" else ())]
            modules |= {STREAM for name in read if is_streamed(self.study.datasets[name])}
        found = self._used(entries) | {"modules": sorted(modules)}
        if run and stage == "extract" and self.experiment(run).keep_features == "none":
            found["functions"] = [*found["functions"], STATISTICS]
        return found

    def _used(self, entries: list[tuple[Any, str]]) -> dict[str, Any]:
        """Return the functions that entries are computed by, and the files that the user's own read."""
        own = (entry for entry, _ in entries if hasattr(entry, "file"))
        files = sorted({(name, self._digests.of(path)) for entry in own for name, path in entry.places.items()})
        return _used(entries) | {"files": files}

    def data_code_used(self, dataset: str) -> dict[str, Any]:
        """Return what `prepare` finds by name for a data set: the arguments of `code_digest` beside the stage."""
        entry = self.study.datasets[dataset]
        if hasattr(entry, "file"):
            return _used([(entry, "")])
        streamed = ["nclens.data.stream_dataset"] if is_streamed(entry) else []
        return {"modules": [f"nclens.data.{entry.source}", *streamed]}

    def _called(self, stage: str, run: Run | None) -> list[str]:
        """Return the functions of a catalogue that a stage calls, as `module:name`."""
        if stage == "measure" and run:
            return [call.function for call in specs.measure(self.study, run).measurements]
        if stage == "probe" and run:
            spec = specs.probe(self.study, run)
            return [*(entry.function for entry in spec.probes), *([specs.LOSS_AFTER] if spec.loss else [])]
        return self.study.drawing_functions() if stage == "draw" else []

    def _of_study(self, stage: str) -> list[tuple[Any, str]]:
        """Return the entries that a stage of the study computes with, each with its registry."""
        # `predict` tests the gradients of the user's own losses.
        found = {"judge": self.study.claims, "predict": self.study.losses}.get(stage, {})
        return [(entry, "") for entry in found.values() if hasattr(entry, "file")]

    def _entries(self, stage: str, run: Run) -> list[tuple[Any, str]]:
        """Return the entries that a stage computes with, each with its registry."""
        of_loss = stage in ("train", "measure") or (stage == "extract" and self.experiment(run).keep_features == "none")
        of_loss |= stage == "probe" and specs.probe(self.study, run).loss is not None
        losses = [self.study.losses[run.loss]] if of_loss else []
        names = [self.experiment(network).model_of(network.loss) for network in self._networks(stage, run)]
        models = [self.study.models[name] for name in names if name is not None]
        own: list[Any] = list(self.study.metrics.values()) if stage == "measure" else []
        if stage == "train":
            experiment = self.study.trained(run.experiment)
            chosen = (self.study.optimizer(experiment, run.loss), self.study.lr_schedule(experiment, run.loss))
            own = [entry for entry in chosen if hasattr(entry, "file")]
        probes = self.experiment(run).probes if stage == "probe" else ()
        return [
            *((entry, "") for entry in own),
            *((entry, "") for name, entry in self.study.own_probes.items() if name in probes),
            *((entry, "nclens.losses") for entry in losses),
            *((entry, "nclens.models") for entry in models),
        ]

    def _networks(self, stage: str, run: Run) -> list[Run]:
        """Return the runs whose networks a stage builds."""
        networks = [run] if stage in ("train", "ingest", "extract", "probe") else []
        teacher = self.study.teacher(run) if stage == "train" else None
        return [*networks, *([teacher] if teacher else [])]

    # --- what jobs need ----------------------------------------------------------------------------------------------

    def training(self, run: Run) -> Needs:
        """Return what a training job needs, by the experiment's ended runs or by estimate."""
        others = (other for other in self.study.runs(run.experiment) if other.model == run.model)
        records = (self.of(other).run for other in islice(others, MOST_RECORDS))
        return training_needs(specs.train(self.study, run), self.folder.manifest(run.dataset), records)

    def measuring(self, run: Run) -> Needs:
        """Return what extracting or measuring a run needs."""
        dim = self.study.dim(run.experiment, run.loss)
        return measuring_needs(specs.extract(self.study, run), self.folder.manifest(run.dataset), dim)

    def probing(self, run: Run) -> Needs:
        """Return what the probes of a run need."""
        names = [run.dataset, *self.study.transfer_datasets(run.experiment)]
        manifests = {name: self.folder.manifest(name) for name in names}
        return probing_needs(specs.probe(self.study, run), manifests, self.study.dim(run.experiment, run.loss))

    def devices(self, run: Run) -> int:
        """Return on how many devices a run is trained."""
        return self.experiment(run).devices

    def workers(self, *datasets: str) -> int:
        """Return how many processes decode images for a job that reads data sets; 0 where none is a stream."""
        entries = (self.study.datasets[name] for name in datasets)
        return max((entry.workers for entry in entries if is_streamed(entry)), default=0)

    def cores(self, run: Run, step: str) -> int:
        """Return the cores that a step of a run keeps busy: one for each device, and one for each of its workers.

        Jobs that get fewer start fewer workers (`nclens.workflow.streams.share_cores`).
        """
        read = [run.dataset, *(self.study.transfer_datasets(run.experiment) if step == "probe" else ())]
        return (self.devices(run) if step == "train" else 1) * (1 + self.workers(*read))

    def training_slots(self, run: Run, here: bool) -> int:
        """Return how many slots of GPUs a training takes, one of each of its devices; else as `gpu_slots`."""
        return self.devices(run) * self.gpu_slots(run, here)

    def check_machine(self, cores: int | None, slots: int | None) -> None:
        """Refuse trainings on more devices than there are on this machine, of which Snakemake would give them fewer.

        Args:
            cores: those that jobs may use; None where the machine's do not count.
            slots: those of the GPUs; None for no limit.
        """
        for name, entry in self.study.experiments.items():
            devices = entry.devices
            on_gpus = entry.device == "cuda" or (entry.device == "auto" and has_gpu())
            there = slots if on_gpus else cores
            if devices > 1 and there is not None and devices > there:
                what = "slots of GPUs: the limit `gpu` of the profile" if on_gpus else "cores: --cores"
                raise ConfigError(
                    f"experiments.{name}.training.devices = {devices}: jobs may use {there} {what}; allowed: at most "
                    "that many, or a higher limit where the machine has them"
                )

    def launcher(self, resources: Any, threads: int) -> str:
        """Return what starts the tasks of a job that several share, by its resources `mpi`, `tasks` and `nodes`."""
        if not resources.get("mpi"):
            return ""
        tasks, gpus = resources.get("tasks", 1), resources.get("gpu", 0)
        cores = resources.get("cpus_per_task") or max(1, threads // tasks)
        step = f"--nodes={resources.get('nodes', 1)} --ntasks={tasks} --cpus-per-task={cores} --kill-on-bad-exit=1"
        return f"{TASKS}={tasks} {resources.get('mpi')} {step}{f' --gpus={gpus}' if gpus else ''}"

    def gpu_slots(self, run: Run, here: bool) -> int:
        """Return how many slots of a GPU a job takes: none where it will compute on the CPU of this machine."""
        device = self.experiment(run).device
        return 0 if device == "auto" and here and not has_gpu() else int(device != "cpu")

    def features_mb(self, run: Run) -> int:
        """Return the disk that the features of a run's snapshots take, in MB; 0 before its data set is prepared."""
        manifest = self.folder.manifest(run.dataset)
        if not manifest.is_file():
            return 0
        return features_mb(self.study, run, json.loads(manifest.read_text(encoding="utf-8")))

    def is_judged(self) -> bool:
        """Return whether the verdicts are of the measurements that are there."""
        return is_judged(self.folder)


def _pattern(entry: Experiment | Imported) -> str:
    dataset, seeds = re.escape(entry.dataset), "|".join(map(str, entry.seeds))
    trained: dict[str, list[str]] = {}
    for loss in entry.own:
        trained.setdefault(re.escape(entry.network_of(loss)), []).append(re.escape(loss))
    return "|".join(f"{dataset}/{model}/(?:{'|'.join(losses)})/seed(?:{seeds})" for model, losses in trained.items())


def _used(entries: Iterable[tuple[Any, str]]) -> dict[str, Any]:
    """Return the functions, registered or the user's own, that entries are computed by."""
    entries = list(entries)
    own = [(entry.file, entry.function) for entry, _ in entries if hasattr(entry, "file")]
    named = [(entry, registry) for entry, registry in entries if not hasattr(entry, "file")]
    functions = [f"{registry}:{getattr(entry, 'function_name', entry.name)}" for entry, registry in named]
    return {"functions": functions, "own": own}
