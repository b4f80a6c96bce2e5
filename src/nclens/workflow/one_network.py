"""Measure one network that was trained elsewhere, by the stages of a study that has it alone."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nclens.study import ConfigError, Study, load_study, read_study
from nclens.workflow import specs, tables
from nclens.workflow.paths import StudyFolder, path_of
from nclens.workflow.provenance import code_digest

#: What the data set, the model, the label and the experiment of such a study are called, but for the data set.
NAME = "network"


def measure_network(
    checkpoint: str,
    model: str,
    parameters: Mapping[str, Any],
    data: str,
    data_dir: Path,
    chosen: Mapping[str, Any],
    threads: int,
) -> dict[str, dict[str, float]]:
    """Return every metric of a network, metric -> split -> value; its error and preprocessing are printed first.

    Args:
        checkpoint: the file, or the folder of Hugging Face.
        model: `module:function` of a file beside the data's or in the current folder, or the name of a model.
        parameters: its further keys: of a function its keyword arguments.
        data: `FILE.yaml#NAME`, an entry of `datasets` in that file; without `#NAME` its only one.
        data_dir: the folder of raw data.
        chosen: the keys of an imported experiment: `normalise`, `resize`, `crop`, `prefix`, `key`, `expected_error`,
            `device`; None for those that are not given.
        threads: CPU threads.

    Raises:
        ConfigError, ValueError, OSError: an argument, the checkpoint or the data do not fit; says which.
    """
    from nclens.workflow.stages.extract import extract
    from nclens.workflow.stages.ingest import ingest
    from nclens.workflow.stages.measure import measure
    from nclens.workflow.stages.prepare import prepare

    file, name, entry = _dataset(data)
    own = {"function": model, "parameters": dict(parameters)} if ":" in model else {"name": model, **parameters}
    study = _study(checkpoint, own, name, entry, chosen, [file.parent, Path()])
    (run,) = study.runs()
    experiment = study.imported(run.experiment)
    with TemporaryDirectory(prefix="nclens_") as temporary:
        root = StudyFolder(Path(temporary, "results", study.study))
        folder, made = root.run(path_of(run)), (root.data(name), root.manifest(name))
        prepare(specs.prepare(study, name), *made, data_dir, specs.user_paths(study.datasets[name]))
        files = experiment.files(run.loss, run.seed)
        ingest(specs.ingest(study, run), code_digest("ingest"), *made, folder.folder, files, threads=threads)
        extract(specs.extract(study, run), *made, folder.folder, threads)
        measure(specs.measure(study, run), folder.folder, threads)
        values: dict[str, dict[str, float]] = {}
        for row in tables.read_rows(tables.METRICS, folder.metrics):
            values.setdefault(row["metric"], {})[row["split"]] = float(row["value"] or "nan")
    return values


def _dataset(data: str) -> tuple[Path, str, Any]:
    """Return the file, the name and the content of `FILE.yaml#NAME`."""
    place, _, name = data.partition("#")
    file = Path(place).expanduser()
    if not file.is_file():
        raise ConfigError(
            f"--data {data}: there is no file {file}; allowed: FILE.yaml#NAME, an entry of its `datasets`"
        )
    content = read_study(file)
    known = content.get("datasets") if isinstance(content, Mapping) else None
    if not isinstance(known, Mapping) or not known:
        raise ConfigError(f"--data {data}: {file} has no table `datasets`, as a study has")
    if not name and len(known) == 1:
        name = next(iter(known))
    if name not in known:
        raise ConfigError(f"--data {data}: {file} has no data set `{name}`; it has: {', '.join(map(str, known))}")
    return file, name, known[name]


def _study(
    checkpoint: str, model: Mapping[str, Any], name: str, dataset: Any, chosen: Mapping[str, Any], folders: list[Path]
) -> Study:
    """Return the study that has the network alone."""
    experiment = {
        **{"kind": "imported", "dataset": name, "model": NAME},
        "runs": {NAME: {"0": str(Path(checkpoint).expanduser().resolve())}},
        **{key: value for key, value in chosen.items() if value is not None},
    }
    raw = {
        "study": NAME,
        "datasets": {name: dataset},
        "models": {NAME: dict(model)},
        "experiments": {NAME: experiment},
    }
    return load_study(raw, [*folders])
