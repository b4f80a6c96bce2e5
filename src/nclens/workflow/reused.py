"""Runs that another study has made: where they are, whether all are there, and the digests of their files."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nclens.workflow.files import read_json
from nclens.workflow.paths import RunFolder, StudyFolder, loss_path, run_path

if TYPE_CHECKING:
    from nclens.study import Study
    from nclens.workflow.specs import Reuse, ReusedLoss


def sources_of(study: "Study") -> dict[str, str]:
    """Return the folders of runs that other studies have made, by the path that they would have here (`loss_path`)."""
    return {
        loss_path(entry.dataset, entry.network_of(loss), loss): str(source.runs)
        for name, entry in study.experiments.items()
        for loss, source in study.reused(name).items()
    }


def resolved_sources(resolved: Mapping[str, Any], folders: Sequence[str | Path] = (".",)) -> dict[str, str]:
    """Return the same of a resolved study, as it was read; other studies are looked for in some folders, in order.

    Raises:
        ValueError: another study cannot be found; says how it is made.
    """
    from nclens.study.reused import Reused, find

    return {
        loss_path(entry["dataset"], entry["model"], loss["name"]): str(find(Reused(**loss), folders).runs)
        for entry in resolved["experiments"].values()
        for loss in entry.get("losses", ())
        if isinstance(loss, Mapping)
    }


def files_of(run: RunFolder, probed: bool) -> list[Path]:
    """Return the files of a run that a study uses."""
    return [run.run, run.history, run.metrics, run.film, run.features, *([run.probes] if probed else [])]


def reused_runs(spec: "Reuse", folder: StudyFolder) -> "Iterator[tuple[ReusedLoss, RunFolder]]":
    """Yield each run of another study: its loss, and its folder there."""
    for item in spec.reused:
        for seed in item.seeds:
            yield item, folder.run(run_path(item.dataset, item.model, item.loss, seed))


def reused_files(spec: "Reuse", folder: StudyFolder, digest: Callable[[Path], str]) -> dict[str, dict[str, str]]:
    """Return the digest of each file of the runs of other studies, by loss (`loss_path`) and `seedN/FILE`."""
    found: dict[str, dict[str, str]] = {}
    for item, run in reused_runs(spec, folder):
        files = {f"{run.folder.name}/{path.name}": digest(path) for path in files_of(run, item.probed)}
        found.setdefault(loss_path(item.dataset, item.model, item.loss), {}).update(files)
    return found


def digests_of(files: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return one digest of the files of each loss."""
    texts = {loss: json.dumps(of, sort_keys=True) for loss, of in files.items()}
    return {loss: hashlib.sha256(text.encode()).hexdigest() for loss, text in texts.items()}


def check_runs(study: "Study") -> None:
    """Refuse runs of other studies that are not finished, or whose snapshots are of other epochs.

    Raises:
        ConfigError: names every loss, with the command that finishes its study, or both lists of epochs.
    """
    from nclens.study import ConfigError

    faults, folder = [], StudyFolder(Path(study.root), sources_of(study))
    for name, entry in study.experiments.items():
        for loss, source in study.reused(name).items():
            where, there = f"experiments.{name}.losses: {loss} of {source.folder}", StudyFolder(source.folder)
            runs = [folder.run(run_path(entry.dataset, entry.network_of(loss), loss, seed)) for seed in entry.seeds]
            wanted = [path for run in runs for path in files_of(run, bool(entry.probes))]
            wanted += [there.report, there.manifest(source.dataset)]
            if missing := [str(path) for path in wanted if not path.is_file()]:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                faults.append(f"{where}: is unfinished, {missing[0]}{more} is missing: `{source.command}` finishes it")
                continue
            for run in runs:
                if (epochs := snapshots_of(run)) != (here := list(entry.snapshot_epochs)):
                    faults.append(
                        f"{where}: {run.folder.name} has snapshots of the epochs {epochs}, and experiments.{name} of "
                        f"{here}; curves are compared epoch by epoch: the same epochs are allowed"
                    )
                    break
    if faults:
        raise ConfigError("\n".join(faults))


def snapshots_of(run: RunFolder) -> list[int]:
    """Return the epochs of a run's snapshots."""
    return [int(epoch) for epoch in read_json(run.run, "train")["spec"]["snapshots"]]


def check_data(where: str, run: RunFolder, dataset: str, manifest: Mapping[str, Any]) -> None:
    """Refuse a run of another study on other data, or on other splits of them.

    Args:
        where: what the run is called, for messages.
        run: its folder there.
        dataset: what its study calls the data set.
        manifest: of the data set here.

    Raises:
        ValueError: with both values.
    """
    there = read_json(run.study.manifest(dataset), "prepare")
    for split in ("train", "test"):
        if there[split] != manifest[split]:
            raise ValueError(
                f"{where}: the {split} split has {there[split]:,} samples there and {manifest[split]:,} here; allowed: "
                "the same data and splits"
            )
    trained_on = read_json(run.run, "train")["data_sha256"]
    if trained_on != manifest["sha256"]:
        raise ValueError(
            f"{where}: its data set {dataset} has the checksum {trained_on}, and {manifest['dataset']} here "
            f"{manifest['sha256']}; allowed: the same data and splits"
        )


def check_reused_data(study: "Study", data: Mapping[str, tuple[Any, Mapping[str, Any]]]) -> None:
    """Refuse data sets, as `nclens.workflow.trials.read_data` returns them, that reused runs were not trained on.

    Raises:
        ConfigError: with both values.
    """
    from nclens.study import ConfigError
    from nclens.workflow.files import detached, tensors_digest

    digests: dict[str, str] = {}
    folder = StudyFolder(Path(study.root), sources_of(study))
    for name, entry in study.experiments.items():
        for loss, source in study.reused(name).items():
            splits, manifest = data[entry.dataset]
            if entry.dataset not in digests:
                digests[entry.dataset] = tensors_digest(detached(splits.tensors))
            described = {"dataset": entry.dataset, **manifest, "sha256": digests[entry.dataset]}
            where = f"experiments.{name}.losses: {loss} of {source.folder}"
            try:
                run = folder.run(run_path(entry.dataset, entry.network_of(loss), loss, entry.seeds[0]))
                check_data(where, run, source.dataset, described)
            except ValueError as error:
                raise ConfigError(str(error)) from None


def reused_lines(study: "Study") -> Iterator[str]:
    """Yield a line on each reused loss: whose it is, and what was trained otherwise there."""
    from nclens.study.reused import differences

    for name, entry in study.experiments.items():
        for loss, source in study.reused(name).items():
            runs = f"{len(entry.seeds)} run" + ("" if len(entry.seeds) == 1 else "s")
            other = [f"{key} = {there} there, {here} here" for key, there, here in differences(study, name, loss)]
            line = f"{name}: {loss} is {source.entry.loss} of {source.folder}, {source.entry.experiment}: {runs} reused"
            yield "; ".join([line, *other])
