"""What each step of the workflow uses of a study: a leaf that its specification lacks cannot make it run again.

One function a step, of the step's name; each returns plain data, as it stands in the rule's parameters.
"""

from collections.abc import Iterator
from typing import Any

from nclens.metrics.catalogue import calls
from nclens.probes.catalogue import probe_of
from nclens.study.datasets import Files
from nclens.study.experiments import Experiment
from nclens.study.fields import Closed
from nclens.study.study import Run, Study


def prepare(study: Study, dataset: str) -> dict[str, Any]:
    """Return what `prepare` uses."""
    entry = study.datasets[dataset]
    chosen = entry.specification() if isinstance(entry, Files) else _entry(entry)
    return {"dataset": dataset, "entry": chosen}


def train(study: Study, run: Run) -> dict[str, Any]:
    """Return what `train` uses: the full specification of a run."""
    experiment = study.experiments[run.experiment]
    training = experiment.training.model_dump(mode="json", exclude={"ufm_regularised"})
    return {
        "dataset": run.dataset,
        "model": _model(study, run.model),
        "loss": _loss(study, run),
        "seed": run.seed,
        "training": training | {"weight_decay": study.weight_decay(run.experiment, run.loss)},
        "penalties": _penalties(study, run.experiment),
        "snapshots": experiment.snapshot_epochs,
        **_teaching(study, run),
    }


def _teaching(study: Study, run: Run) -> dict[str, Any]:
    """Return which run teaches a run, with what network, at which epoch; nothing where none does."""
    teacher = study.teacher(run)
    if teacher is None:
        return {}
    epoch = study.experiments[teacher.experiment].training.epochs
    return {"teacher": {"run": teacher.path, "model": _model(study, teacher.model), "epoch": epoch}}


def extract(study: Study, run: Run) -> dict[str, Any]:
    """Return what `extract` uses."""
    experiment = study.experiments[run.experiment]
    return {
        "dataset": run.dataset,
        "model": _model(study, run.model),
        "snapshots": experiment.snapshot_epochs,
        "device": experiment.training.device,
    }


def measure(study: Study, run: Run) -> dict[str, Any]:
    """Return what `measure` uses."""
    task, entry, theory = study.task(run.experiment), study.experiments[run.experiment], study.theory
    c = theory.lambda_w * theory.lambda_h_mean if entry.training.ufm_regularised else None
    loss = {"loss": _loss(study, run), "epochs": entry.training.epochs}
    by_task: dict[str, dict[str, Any]] = {
        "classification": study.measure.model_dump(mode="json") | loss,
        "regression": {"c": c},
    }
    return {"task": task, "snapshots": entry.snapshot_epochs, "measurements": measurements(study, run), **by_task[task]}


def measurements(study: Study, run: Run) -> list[dict[str, Any]]:
    """Return the functions that `measure` calls for a run."""
    if study.task(run.experiment) == "regression":
        return calls("regression")
    return calls("classification", *(("onehot",) if study.is_onehot(run.loss) else ()))


def probe(study: Study, run: Run) -> dict[str, Any]:
    """Return what `probe` uses."""
    epochs = study.experiments[run.experiment].snapshot_epochs
    return {
        **extract(study, run),
        "run": run.path,
        "seed": run.seed,
        "snapshots": study.probed_epochs(run.experiment),
        "probes": [
            {
                **asked,
                "snapshots": epochs[-1 if study.probes[name].snapshots == "last" else 0 :],
                "function": probe_of(asked["kind"]).function,
                "split": probe_of(asked["kind"]).split,
            }
            for name, asked in _asked(study, run.experiment).items()
        ],
    }


def _asked(study: Study, experiment: str) -> dict[str, dict[str, Any]]:
    """Return an experiment's probes; of several of one kind each adds its name to its metrics', after a slash."""
    probes = {name: study.probes[name] for name in study.experiments[experiment].probes}
    kinds = [probe.kind for probe in probes.values()]
    return {
        name: {
            **_entry(probe, leave_out={"snapshots"}),
            "suffix": f"/{name}" if kinds.count(probe.kind) > 1 else "",
        }
        for name, probe in probes.items()
    }


def theory(study: Study) -> dict[str, Any]:
    """Return what `theory` uses: one item per experiment and loss that has a closed form."""
    return {
        "penalties": study.theory.penalties,
        "regressions": regression(study),
        "losses": [
            {
                "experiment": name,
                "dataset": entry.dataset,
                "model": entry.model,
                "loss": loss,
                "smoothing": smoothing,
                "dim": study.models[entry.model].dim,
            }
            for name, entry in study.experiments.items()
            for loss, smoothing in study.smoothings(name).items()
        ],
    }


def regression(study: Study) -> list[dict[str, Any]]:
    """Return what `theory` and `predict` use of the regressions trained with the model's penalties."""
    return [
        {
            "experiment": name,
            "dataset": entry.dataset,
            "model": entry.model,
            "dim": study.models[entry.model].dim,
            "losses": list(entry.losses),
            "seeds": list(entry.seeds),
            "epochs": entry.training.epochs,
            **{key: study.theory.model_dump()[key] for key in ("lambda_w", "lambda_h_mean")},
        }
        for name, entry in _of(study, "regression")
        if entry.training.ufm_regularised
    ]


def predict(study: Study) -> list[dict[str, Any]]:
    """Return what `predict` uses: the experiments, their smoothings, and whether their penalties are explicit."""
    return [
        {
            "name": name,
            "dataset": entry.dataset,
            "model": entry.model,
            "dim": study.models[entry.model].dim,
            "regularised": entry.training.ufm_regularised,
            "losses": study.smoothings(name),
            "seeds": list(entry.seeds),
            "epochs": entry.training.epochs,
        }
        for name, entry in _of(study, "classification")
    ]


def collect(study: Study) -> list[dict[str, Any]]:
    """Return what `collect` uses: which runs there are."""
    return [
        {
            "name": name,
            "task": study.task(name),
            "dataset": entry.dataset,
            "model": entry.model,
            "losses": list(entry.losses),
            "seeds": list(entry.seeds),
            "probed": bool(entry.probes),
            "epochs": entry.training.epochs,
            "teachers": study.teachers(name),
        }
        for name, entry in study.experiments.items()
    ]


def judge(study: Study) -> list[dict[str, Any]]:
    """Return what `judge` uses: which losses are compared with which."""
    return [
        {
            "name": name,
            "dataset": entry.dataset,
            "model": entry.model,
            "baseline": study.baseline(name),
            "losses": {loss: {"kind": study.kind(loss), "strength": study.strength(loss)} for loss in entry.losses},
            "teachers": study.teachers(name),
            "seeds": list(entry.seeds),
            "epochs": entry.training.epochs,
            **_task_facts(study, name),
        }
        for name, entry in study.experiments.items()
    ]


def draw(study: Study) -> list[dict[str, Any]]:
    """Return what `draw` uses: the experiments with the looks of their losses."""
    return [
        {
            "name": name,
            "dataset": entry.dataset,
            "model": entry.model,
            "losses": {loss: {"label": study.label(loss), "colour": study.colour(loss)} for loss in entry.losses},
            "baseline": study.baseline(name),
            "seeds": list(entry.seeds),
            "epochs": entry.training.epochs,
            "figures": study.figures(name),
            "smoothings": study.smoothings(name),
            "drops": study.drops(name),
            "teachers": {
                loss: {**teacher, "label": study.label(teacher["loss"])}
                for loss, teacher in study.teachers(name).items()
            },
            "first_epoch": entry.snapshot_epochs[0],
            **_task_facts(study, name),
            "probes": list(_asked(study, name).values()),
            "projection_classes": list(entry.projection_classes),
        }
        for name, entry in study.experiments.items()
    ]


def report(study: Study, command: str) -> dict[str, Any]:
    """Return what `report` uses; `command` is what reproduces the study."""
    experiments = [{**entry, "transfer": study.transfer_datasets(entry["name"])} for entry in draw(study)]
    return {"name": study.study, "title": study.title, "command": command, "experiments": experiments}


def track(study: Study, run: Run) -> dict[str, Any]:
    """Return what `track` uses for a run."""
    return {
        "study": study.study,
        "run": run.path,
        "experiment": run.experiment,
        "dataset": run.dataset,
        "model": run.model,
        "loss": run.loss,
        "seed": run.seed,
        "label": study.label(run.loss),
        "colour": study.colour(run.loss),
        "tensors": study.track.tensors,
        "snapshots": study.experiments[run.experiment].snapshot_epochs,
        "keep_features": study.experiments[run.experiment].keep_features,
        "probed": bool(study.experiments[run.experiment].probes),
    }


def track_study(study: Study) -> dict[str, Any]:
    """Return what `track` uses for the study: its name, title and files."""
    theory = [f"theory/{name}.csv" for name in ("ufm", "dynamics", "predictions", "effective", "regression")]
    figures = [
        f"figures/{name}_{figure}.{ending}"
        for name in study.experiments
        for figure in study.figures(name)
        for ending in ("png", "pdf", "csv")
    ]
    files = ["study.yaml", "claims.csv", "claims.md", "metrics.parquet", "report.html"]
    files += ["tables/losses.csv", *theory, *figures]
    return {"study": study.study, "title": study.title, "files": files}


def _model(study: Study, name: str) -> dict[str, Any]:
    return {"entry": name, **_entry(study.models[name], leave_out={"dim"})}


def _loss(study: Study, run: Run) -> dict[str, Any]:
    entry = _entry(study.losses[run.loss], leave_out={"label", "colour", "weight_decay", "teacher"})
    return {"entry": run.loss, **entry}


def _penalties(study: Study, experiment: str) -> dict[str, float] | None:
    """Return the penalties that an experiment trains with, if it does: of a mean loss and N lambda_H by task."""
    if not study.experiments[experiment].training.ufm_regularised:
        return None
    classification, lambda_h_mean = study.theory.penalties, study.theory.lambda_h_mean
    by_task = {
        "classification": classification,
        # A mean over the samples already; the regression model has no penalty on the bias.
        "regression": classification | {"lambda_h_total": lambda_h_mean, "lambda_b": 0.0},
    }
    return by_task[study.task(experiment)]


def _task_facts(study: Study, experiment: str) -> dict[str, Any]:
    """Return what claims and figures are told of an experiment's task and regulariser."""
    entry = study.experiments[experiment]
    return {
        "task": study.task(experiment),
        "weight_decays": {loss: study.weight_decay(experiment, loss) for loss in entry.losses},
        "regularised": entry.training.ufm_regularised,
    }


def _of(study: Study, task: str) -> Iterator[tuple[str, Experiment]]:
    """Yield the experiments of a task by name."""
    return ((name, entry) for name, entry in study.experiments.items() if study.task(name) == task)


def _entry(entry: Closed, leave_out: set[str] | None = None) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude=leave_out)
