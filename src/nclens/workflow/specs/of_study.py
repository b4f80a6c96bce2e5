"""From a study to the specification of each step, a function a step."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nclens.figures.catalogue import FIGURES
from nclens.metrics.catalogue import MEASUREMENTS, MOST_CLASSES, Task
from nclens.probes.catalogue import probe_of
from nclens.workflow.paths import ENDINGS, THEORY, StudyFolder, path_of
from nclens.workflow.specs.steps import (
    PREPROCESSED,
    Call,
    Entry,
    Extract,
    Ingest,
    Loss,
    Measure,
    MeasureClassifier,
    MeasureRegressor,
    OfExperiment,
    OwnMetric,
    OwnProbe,
    Penalties,
    Prepare,
    Probe,
    ProbeRun,
    Resolve,
    Schedule,
    Statistics,
    Teacher,
    Teaching,
    Train,
    Training,
)
from nclens.workflow.specs.study_steps import (
    Arcs,
    Collect,
    CollectExperiment,
    Descent,
    Draw,
    DrawExperiment,
    Judge,
    JudgeExperiment,
    OwnFigure,
    Predict,
    PredictExperiment,
    PredictNC0,
    PredictRegression,
    Report,
    ReportExperiment,
    Reuse,
    ReusedFrom,
    ReusedLoss,
    ShownFigure,
    ShownMetric,
    StatedClaim,
    Theory,
    TheoryExperiment,
    TheoryRegression,
    TrackExperiment,
    TrackRun,
    TrackSetup,
    TrackStudy,
)
from nclens.workflow.specs.text import decoded, flat, hints_of
from nclens.workflow.specs.user_data import PATHS

if TYPE_CHECKING:
    from nclens.study.experiments import Experiment
    from nclens.study.fields import Closed
    from nclens.study.imported import Imported
    from nclens.study.metrics import CustomMetric
    from nclens.study.probes import CustomProbe
    from nclens.study.study import Run, Study

#: Functions whose metrics every network of their task has, whatever its loss.
ALWAYS = (
    "nclens.metrics.collapse:neural_collapse",
    "nclens.metrics.calibration:calibration_metrics",
    "nclens.metrics.selective:selective_metrics",
    "nclens.metrics.regression:regression_collapse",
)


def resolve(study: "Study") -> Resolve:
    """Return what `resolve` uses."""
    return Resolve(study.resolved())


def prepare(study: "Study", dataset: str) -> Prepare:
    """Return what `prepare` uses."""
    from nclens.study.alterations import without_defaults

    entry = study.datasets[dataset]
    chosen = entry.specification() if hasattr(entry, "specification") else without_defaults(_dumped(entry))
    # Where files are is no part of it: their digests say what they are.
    return Prepare(dataset, {key: value for key, value in chosen.items() if key not in (*PATHS, "file", "files")})


def train(study: "Study", run: "Run") -> Train:
    """Return what `train` uses: a run in full."""
    experiment = study.trained(run.experiment)
    return Train(
        dataset=run.dataset,
        model=_trained_model(study, run),
        loss=_loss(study, run.loss),
        seed=run.seed,
        training=_training(study, run.experiment, run.loss),
        penalties=_trained_with(study, run.experiment),
        snapshots=tuple(experiment.snapshot_epochs),
        teacher=_teacher(study, run),
    )


def _training(study: "Study", experiment: str, loss: str) -> Training:
    """Return how the runs of an experiment and loss are trained."""
    from nclens.study.recipes import OPTIONS, recipe

    chosen = study.trained(experiment)
    training = _dumped(chosen.training, leave_out={"ufm_regularised", "optimizer", "lr_schedule", *OPTIONS})
    training["recipe"] = recipe(chosen.training)
    # Without them the specification of a run on one device is what it was before there could be several.
    training["devices"] = None if chosen.training.devices == 1 else chosen.training.devices
    training["sync_batchnorm"] = chosen.training.sync_batchnorm or None
    training["optimizer"] = study.optimizer(chosen, loss).specification()
    training["lr_schedule"] = study.lr_schedule(chosen, loss).specification()
    return decoded(Training, training)


def ingest(study: "Study", run: "Run") -> Ingest:
    """Return what `ingest` uses: which weights of a run's files are whose, and what they are to be."""
    experiment = study.imported(run.experiment)
    return Ingest(
        dataset=run.dataset,
        model=_network(study, run),
        seed=run.seed,
        snapshots=tuple(experiment.snapshot_epochs),
        device=experiment.device,
        prefix=experiment.prefix,
        key=experiment.key,
        epoch=experiment.epoch,
        expected_error=experiment.expected(run.loss, run.seed),
    )


def extract(study: "Study", run: "Run") -> Extract:
    """Return what `extract` uses."""
    experiment = study.experiments[run.experiment]
    statistics = None
    if experiment.keep_features == "none":
        chosen = _classifier(study, run)
        statistics = Statistics(chosen.loss, chosen.epochs, chosen.projection_classes, study.is_onehot(run.loss))
    return Extract(run.dataset, _network(study, run), *_snapshots(experiment), experiment.device, statistics)


def measure(study: "Study", run: "Run") -> Measure:
    """Return what `measure` uses."""
    task, entry, theory = study.task(run.experiment), study.experiments[run.experiment], study.theory
    snapshots = _snapshots(entry)
    own = tuple(
        OwnMetric(name, metric.function, str(metric.file), dict(metric.parameters), metric.splits)
        for name, metric in study.metrics.items()
    )
    if task == "regression":
        c = theory.lambda_w * theory.lambda_h_mean if entry.ufm_regularised else None
        return Measure(task, *snapshots, calls("regression"), regressor=MeasureRegressor(c), own=own)
    # A classifier trained with squared error is a regressor on one-hot targets too.
    tasks: tuple[Task, ...] = ("classification", *(("onehot",) if study.is_onehot(run.loss) else ()))
    called = calls(*tasks, from_statistics=entry.keep_features == "none")
    return Measure(task, *snapshots, called, _classifier(study, run), own=own)


def _classifier(study: "Study", run: "Run") -> MeasureClassifier:
    """Return how a classifier is measured."""
    entry = study.experiments[run.experiment]
    return MeasureClassifier(
        held_out=study.measure.held_out,
        held_out_seed=study.measure.held_out_seed,
        # Class weights are of training: each class's loss is measured as it is.
        loss=dataclasses.replace(_loss(study, run.loss), class_weights=(), balanced=False),
        epochs=max(1, entry.epochs),
        most_classes=MOST_CLASSES,
        projection_classes=tuple(entry.projection_classes),
    )


def _snapshots(experiment: "Experiment | Imported") -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the epochs of an experiment's snapshots, and those whose features are kept."""
    epochs = tuple(experiment.snapshot_epochs)
    return epochs, epochs[-1:] if experiment.keep_features == "last" else epochs


def calls(*tasks: Task, from_statistics: bool = False) -> tuple[Call, ...]:
    """Return the functions that networks of these tasks are measured by, in the catalogue's order.

    Of classifiers they may be those that take statistics in place of features.
    """
    chosen = (entry for entry in MEASUREMENTS if entry.task in tasks)
    found = ((entry.from_statistics if from_statistics else entry.function, entry) for entry in chosen)
    return tuple(Call(function, entry.task, entry.splits) for function, entry in found if function is not None)


def probe(study: "Study", run: "Run") -> ProbeRun:
    """Return what `probe` uses."""
    model = _network(study, run)
    assert model is not None  # recorded features have no probes
    probes, entry = _probes(study, run.experiment), study.experiments[run.experiment]
    of_loss = any(probe.kind == "sharpness" for probe in probes)
    return ProbeRun(
        dataset=run.dataset,
        model=model,
        snapshots=tuple(study.probed_epochs(run.experiment)),
        device=entry.device,
        run=path_of(run),
        seed=run.seed,
        probes=probes,
        own_probes=_own_probes(study, run.experiment),
        loss=_loss(study, run.loss) if of_loss else None,
        epochs=max(1, entry.epochs) if of_loss else 0,
    )


def theory(study: "Study") -> Theory:
    """Return what `theory` uses: the losses that have a closed form."""
    experiments = []
    for name, entry in _of_task(study, "classification"):
        if smoothings := study.smoothings(name):
            keys = (name, entry.dataset, entry.network, study.dim(name))
            experiments.append(TheoryExperiment(*keys, tuple(smoothings), smoothings, _models(entry)))
    regressions = [
        TheoryRegression(
            *(name, entry.dataset, entry.network, dim, tuple(study.of_theory(name))), *penalties, _models(entry)
        )
        for name, entry, dim, penalties in _penalised_regressions(study)
    ]
    return Theory(Penalties(**study.theory.penalties), tuple(experiments), tuple(regressions))


def predict(study: "Study") -> Predict:
    """Return what `predict` uses: losses with a closed form, whether their penalties are explicit; how all descend."""
    experiments, descents = [], []
    for name, entry in _of_task(study, "classification"):
        # Networks of another study that were trained otherwise have other effective penalties.
        known, dim = study.smoothings(name), study.dim(name)
        smoothings = {loss: value for loss, value in known.items() if study.trained_alike(name, loss)}
        runs = _runs(study, name) | {"losses": tuple(sorted(smoothings))}
        regularised = entry.ufm_regularised
        experiments.append(PredictExperiment(**runs, dim=dim, smoothings=smoothings, regularised=regularised))
        if not study.is_imported(name):
            losses = tuple(sorted(entry.own))
            of_loss = {loss: _descent(study, name, loss) for loss in losses}
            descents.append(PredictNC0(**_runs(study, name) | {"losses": losses}, descents=of_loss))
    regressions = []
    for name, _, dim, penalties in _penalised_regressions(study):
        keys = _of_theory(study, name)
        keys["losses"] = tuple(loss for loss in keys["losses"] if study.trained_alike(name, loss))
        regressions.append(PredictRegression(**keys, dim=dim, lambda_w=penalties[0], lambda_h_mean=penalties[1]))
    return Predict(Penalties(**study.theory.penalties), tuple(experiments), tuple(regressions), tuple(descents))


def _descent(study: "Study", experiment: str, loss: str) -> Descent:
    """Return how the classifiers of a loss are trained."""
    training, penalties = _training(study, experiment, loss), _trained_with(study, experiment)
    ignores_shift = study.losses[loss].ignores_shift
    shared = [item.name for item in dataclasses.fields(Descent) if item.name in hints_of(Training)]
    return Descent(
        **{name: getattr(training, name) for name in shared},
        lambda_w=penalties.lambda_w if penalties else 0.0,
        cosine_head=study.has_cosine_head(study.trained(experiment).model_of(loss)),
        ignores_shift=ignores_shift,
        tested=_loss(study, loss) if ignores_shift is None else None,
    )


def collect(study: "Study") -> Collect:
    """Return what `collect` uses: which runs there are."""
    return Collect(
        tuple(
            CollectExperiment(
                **_runs(study, name),
                task=study.task(name),
                probed=bool(entry.probes),
                teachers=_teachers(study, name),
                others=tuple(study.reused(name)),
                always=_always() if study.reused(name) else (),
                arcs=_arcs(study, name),
                translations=_translations(study, name),
            )
            for name, entry in study.experiments.items()
        )
    )


def _arcs(study: "Study", experiment: str) -> Arcs | None:
    """Return how the classes of an experiment's arcs are chosen; None where none are measured."""
    loss = study.loss_of_arcs(experiment)
    if loss is None:
        return None
    return Arcs(loss, study.measure.held_out, study.measure.held_out_seed, most_classes=MOST_CLASSES)


def _translations(study: "Study", experiment: str) -> dict[str, str]:
    """Return the losses whose translations are compared, and with which: as claims do, under one optimiser."""
    from nclens.study.peers import optimizers

    entry, baseline = study.experiments[experiment], study.translations_against(experiment)
    if baseline is None or baseline not in entry.own:
        return {}
    used = optimizers(study, experiment)
    return {loss: baseline for loss in entry.own if loss != baseline and used.get(loss) == used.get(baseline)}


def _always() -> tuple[str, ...]:
    """Return the metrics that every network of their task has, whatever its loss."""
    return tuple(one.name for entry in MEASUREMENTS if entry.function in ALWAYS for one in entry.metrics)


def judge(study: "Study") -> Judge:
    """Return what `judge` uses: which losses are compared with which."""
    from nclens.study.claims import comparisons

    return Judge(
        tuple(
            _judged(study, name)
            for name, entry in study.experiments.items()
            # Networks from elsewhere with one seed have values, and no intervals to judge by.
            if not study.is_imported(name) or len(entry.seeds) > 1
        ),
        tuple(stated_claims(study)),
        tuple((name, *comparison) for name in study.claims for comparison in comparisons(name, study)),
    )


def _judged(study: "Study", name: str) -> JudgeExperiment:
    """Return which losses of an experiment are compared with which."""
    from nclens.study.peers import optimizers, peers

    entry = study.experiments[name]
    return JudgeExperiment(
        **_runs(study, name) | {"models": _judged_models(study, name)},
        task=study.task(name),
        baseline=study.baseline(name),
        kinds={loss: study.kind(loss) for loss in entry.losses},
        strengths={loss: study.strength(loss) for loss in entry.losses},
        weight_decays={loss: study.weight_decay(name, loss) for loss in entry.losses},
        regularised=entry.ufm_regularised,
        teachers=_teachers(study, name),
        labels={loss: study.label(loss) for loss in entry.losses},
        optimizers=optimizers(study, name),
        peers=peers(study, name),
    )


def stated_claims(study: "Study") -> list[StatedClaim]:
    """Return the claims of the user's own."""
    return [decoded(StatedClaim, {"id": name, **entry.specification()}) for name, entry in study.claims.items()]


def draw(study: "Study") -> Draw:
    """Return what `draw` uses: the experiments with the looks of their losses."""
    # Each figure is drawn by itself: their order is the page's.
    drawn = (DrawExperiment(**_drawn(study, name)) for name in study.experiments)
    built_in = ((entry, sorted(set(entry.figures) - set(study.own_figures))) for entry in drawn)
    return Draw(
        tuple(
            dataclasses.replace(
                entry,
                figures=tuple(names),
                # Of the others no change of what is compared draws anything again.
                judged=_judged(study, entry.experiment) if any(FIGURES[name].table for name in names) else None,
            )
            for entry, names in built_in
        )
    )


def draw_own(study: "Study", experiment: str, figure: str) -> Draw:
    """Return what `draw` uses for a figure of the user's own: the experiment with the looks of its losses."""
    entry = study.own_figures[figure]
    drawn = DrawExperiment(**_drawn(study, experiment) | {"figures": (figure,)})
    return Draw((drawn,), (OwnFigure(figure, entry.function, str(entry.file), dict(entry.parameters)),))


def report(study: "Study", command: str) -> Report:
    """Return what `report` uses; `command` is what reproduces the study."""
    experiments = tuple(
        ReportExperiment(
            **_drawn(study, name),
            transfer=tuple(study.transfer_datasets(name)),
            imported=tuple(entry.snapshot_epochs) if study.is_imported(name) else (),
            origins={loss: _reused_from(study, name, loss) for loss in study.reused(name)},
        )
        for name, entry in study.experiments.items()
    )
    measured: list[tuple[str, CustomMetric | CustomProbe]] = [*study.metrics.items(), *study.own_probes.items()]
    own = (ShownMetric(name, entry.label, entry.better, entry.splits) for name, entry in measured)
    figures = (ShownFigure(name, *_texts(study, name)) for name in study.own_figures)
    claims = tuple(stated_claims(study))
    return Report(study.study, study.title, command, experiments, claims, tuple(own), tuple(figures))


def _texts(study: "Study", figure: str) -> tuple[str, str, str]:
    """Return title, source and caption of a figure."""
    entry = study.figure(figure)
    return entry.title, entry.source, entry.caption


def _reused_from(study: "Study", experiment: str, loss: str) -> ReusedFrom:
    from nclens.study.reused import differences

    source, found = study.source(loss), differences(study, experiment, loss)
    keys = source.entry.experiment, source.entry.loss
    return ReusedFrom(source.study["study"], *keys, command=source.command, differences=tuple(found))


def reuse(study: "Study") -> Reuse:
    """Return what `reuse` uses: which runs of other studies; where they are is no part of it."""
    return Reuse(
        tuple(
            ReusedLoss(
                experiment=name,
                dataset=entry.dataset,
                model=entry.network_of(loss),
                loss=loss,
                study=source.study["study"],
                there=OfExperiment(source.entry.experiment, source.dataset, source.runs.parent.name),
                loss_there=source.entry.loss,
                seeds=tuple(entry.seeds),
                probed=bool(entry.probes),
            )
            for name, entry in study.experiments.items()
            for loss, source in study.reused(name).items()
        )
    )


def track_setup(study: "Study") -> TrackSetup:
    """Return what `track` uses before the first record."""
    return TrackSetup(study.study, **_view(study))


def _view(study: "Study") -> dict[str, tuple[str, ...]]:
    """Return the tasks of a study and what its curves are grouped by: the loss; data and model where there are many."""
    keys = ("dataset", "model")
    many = [key for key in keys if len({getattr(run, key) for run in study.runs()}) > 1]
    return {"tasks": tuple(sorted(set(map(study.task, study.experiments)))), "by": (*many, "loss")}


def track_run(study: "Study", run: "Run") -> TrackRun:
    """Return what `track` uses for a run."""
    experiment = study.experiments[run.experiment]
    return TrackRun(
        study=study.study,
        run=path_of(run),
        experiment=run.experiment,
        dataset=run.dataset,
        model=run.model,
        loss=run.loss,
        seed=run.seed,
        task=study.task(run.experiment),
        label=study.label(run.loss),
        colour=study.colour(run.loss),
        tensors=study.track.tensors,
        epoch=experiment.epochs,
        probed=bool(experiment.probes),
    )


def track_study(study: "Study") -> TrackStudy:
    """Return what `track` uses for the study: its name, title and files."""
    folder = StudyFolder(Path())
    files = [folder.resolved, folder.claims, folder.claims_page, folder.metrics, folder.report, folder.losses]
    files += [folder.specifications, folder.judged]
    files += [folder.reused] if any(map(study.reused, study.experiments)) else []
    files += [folder.theory(name) for name in THEORY]
    files += [
        folder.figure(name, figure, ending)
        for name in study.experiments
        for figure in study.figures(name)
        for ending in ENDINGS
    ]
    experiments = (
        TrackExperiment(
            experiment=name,
            dataset=entry.dataset,
            model=entry.network,
            # Runs of another study are recorded with that one.
            labels={loss: study.label(loss) for loss in entry.own},
            colours={loss: study.colour(loss) for loss in entry.own},
            models=_models(entry),
        )
        for name, entry in study.experiments.items()
    )
    return TrackStudy(study.study, study.title, tuple(map(str, files)), tuple(experiments), **_view(study))


def _runs(study: "Study", experiment: str) -> dict[str, Any]:
    """Return the fields of `OfRuns`."""
    entry = study.experiments[experiment]
    return {
        "experiment": experiment,
        "dataset": entry.dataset,
        "model": entry.network,
        "losses": tuple(entry.losses),
        "seeds": tuple(entry.seeds),
        "epochs": entry.epochs,
        "models": _models(entry),
    }


def _of_theory(study: "Study", experiment: str) -> dict[str, Any]:
    """Return the fields of `OfRuns` with the losses that the theory is of."""
    return _runs(study, experiment) | {"losses": tuple(study.of_theory(experiment))}


def _models(entry: "Experiment | Imported") -> dict[str, str]:
    """Return each loss's model, where an experiment has several."""
    found = {loss: entry.network_of(loss) for loss in entry.losses}
    return found if len(set(found.values())) > 1 else {}


def _judged_models(study: "Study", name: str) -> dict[str, str]:
    """Return each loss's model for comparisons; one of another study that differs has that study's name too."""
    from nclens.study.reused import differences

    entry = study.experiments[name]
    other = {
        loss: f"{source.model or 'features'} ({source.study['study']})"
        for loss, source in study.reused(name).items()
        if any(key.partition(".")[0] == "model" for key, *_ in differences(study, name, loss))
    }
    return {loss: entry.network_of(loss) for loss in entry.losses} | other if other else _models(entry)


def _drawn(study: "Study", name: str) -> dict[str, Any]:
    """Return the fields of `DrawExperiment`."""
    entry = study.experiments[name]
    # Students are shown beside the same network alone, which the experiment has of its own model only.
    teachers = {loss: one for loss, one in _teachers(study, name).items() if study.losses[loss].model is None}
    taught = [teaching.loss for teaching in teachers.values()]
    return _runs(study, name) | {
        "task": study.task(name),
        "figures": tuple(study.figures(name)),
        "baseline": study.baseline(name),
        "labels": {loss: study.label(loss) for loss in dict.fromkeys([*entry.losses, *taught])},
        "colours": {loss: study.colour(loss) for loss in entry.losses},
        "first_epoch": entry.snapshot_epochs[0],
        "weight_decays": {loss: study.weight_decay(name, loss) for loss in entry.losses},
        "regularised": entry.ufm_regularised,
        "smoothings": study.smoothings(name),
        "alphas": study.alphas(name),
        "drops": study.drops(name),
        "teachers": teachers,
        # The figures do not depend on how and when the probes are computed.
        "probes": tuple(Probe(probe.kind, probe.arguments, probe.suffix) for probe in _probes(study, name)),
        "projection_classes": tuple(entry.projection_classes),
    }


def _of_task(study: "Study", task: str) -> "Iterator[tuple[str, Experiment | Imported]]":
    """Yield the experiments of a task by name."""
    return ((name, entry) for name, entry in study.experiments.items() if study.task(name) == task)


def _penalised_regressions(
    study: "Study",
) -> "Iterator[tuple[str, Experiment | Imported, int | None, tuple[float, float]]]":
    """Yield the regressions trained with the model's penalties: name, entry, d, (lambda_w, lambda_h_mean)."""
    for name, entry in _of_task(study, "regression"):
        if entry.ufm_regularised and study.of_theory(name):
            yield name, entry, study.dim(name), (study.theory.lambda_w, study.theory.lambda_h_mean)


def _trained_with(study: "Study", experiment: str) -> Penalties | None:
    """Return the penalties that an experiment trains with, if it does: of a mean loss and N lambda_H by task."""
    if not study.experiments[experiment].ufm_regularised:
        return None
    penalties = Penalties(**study.theory.penalties)
    if study.task(experiment) == "regression":
        # A mean over the samples already; the regression model has no penalty on the bias.
        return dataclasses.replace(penalties, lambda_h_total=study.theory.lambda_h_mean, lambda_b=0.0)
    return penalties


def _teacher(study: "Study", run: "Run") -> Teacher | None:
    """Return which run teaches a run, with what network, at which epoch; None where none does."""
    teacher = study.teacher(run)
    if teacher is None:
        return None
    model = _network(study, teacher)
    assert model is not None  # recorded features teach nobody
    return Teacher(path_of(teacher), model, study.experiments[teacher.experiment].epochs)


def _teachers(study: "Study", experiment: str) -> dict[str, Teaching]:
    return {loss: Teaching(**teaching) for loss, teaching in study.teachers(experiment).items()}


def _probes(study: "Study", experiment: str) -> tuple[Probe, ...]:
    """Return an experiment's probes; of several of one kind each adds its name to its metrics', after a slash."""
    entry = study.experiments[experiment]
    probes = {name: study.probes[name] for name in entry.probes if name not in study.own_probes}
    kinds = [probe.kind for probe in probes.values()]
    return tuple(
        Probe(
            kind=probe.kind,
            arguments=_dumped(probe, leave_out={"kind", "snapshots"}) | _held_out(study, probe.kind),
            suffix=f"/{name}" if kinds.count(probe.kind) > 1 else "",
            snapshots=tuple(probe.probed(entry.snapshot_epochs)),
            function=probe_of(probe.kind).function,
            split=probe_of(probe.kind).split,
        )
        for name, probe in probes.items()
    )


def _held_out(study: "Study", kind: str) -> dict[str, Any]:
    """Return which part of the test split a kind of probe chooses on: that of the temperature, where it does."""
    share, seed = study.measure.held_out, study.measure.held_out_seed
    return {"held_out": share, "held_out_seed": seed} if kind == "out_of_distribution" else {}


def _own_probes(study: "Study", experiment: str) -> tuple[OwnProbe, ...]:
    """Return an experiment's probes of the user's own."""
    entry = study.experiments[experiment]
    return tuple(
        OwnProbe(
            name=name,
            function=probe.function,
            file=str(probe.file),
            arguments=dict(probe.parameters),
            splits=probe.splits,
            snapshots=tuple(probe.probed(entry.snapshot_epochs)),
            dataset=probe.dataset,
        )
        for name, probe in study.own_probes.items()
        if name in entry.probes
    )


def _network(study: "Study", run: "Run") -> Entry | None:
    """Return the network of a run, with its own preprocessing if it was trained elsewhere; None where there is none."""
    experiment = study.experiments[run.experiment]
    name = experiment.model_of(run.loss)
    model = None if name is None else _model(study, name)
    chosen = getattr(experiment, "preprocessing", {})
    if model is None or not chosen:
        return model
    return Entry(model.entry, PREPROCESSED, arguments={"network": flat(model), **chosen})


def _model(study: "Study", name: str) -> Entry:
    entry = study.models[name]
    return Entry(entry=name, **_parts(_dumped(entry, leave_out={"dim", *getattr(entry, "unused", ())})))


def _trained_model(study: "Study", run: "Run") -> Entry:
    """Return a run's model as it is trained: with stochastic depth, which no later step has."""
    experiment = study.trained(run.experiment)
    entry, rate = _model(study, experiment.model_of(run.loss)), experiment.training.stochastic_depth
    if rate is None:
        return entry
    given = entry.arguments if entry.function else entry.arguments["parameters"]
    given = {**given, "drop_path_rate": rate}
    return dataclasses.replace(entry, arguments=given if entry.function else {**entry.arguments, "parameters": given})


def _loss(study: "Study", name: str) -> Loss:
    """Return a loss entry without its label, colour, teacher and what minimises it."""
    chosen = study.losses[name].specification()
    schedule = chosen.get("schedule")
    return Loss(name, **chosen | {"schedule": None if schedule is None else Schedule(**schedule)})


def _parts(dumped: dict[str, Any]) -> dict[str, Any]:
    """Return an entry's function, registered or the user's own, and its arguments."""
    if "function" in dumped:
        return {"function": dumped["function"], "file": dumped["file"], "arguments": dumped["parameters"]}
    return {"name": dumped.pop("name"), "arguments": dumped}


def _dumped(entry: "Closed", leave_out: set[str] | None = None) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude=leave_out)
