"""Take up runs that other studies have made: what they were made from is checked, and their files recorded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nclens.workflow.files import FileError, read_json, write_json
from nclens.workflow.paths import StudyFolder, loss_path
from nclens.workflow.reused import check_data, digests_of, reused_files, reused_runs
from nclens.workflow.specs import Reuse
from nclens.workflow.user_files import digest_of


def reuse(spec: Reuse, root: Path, sources: Mapping[str, str], digests: Mapping[str, str] | None = None) -> None:
    """Write R/reused.json: of each reused loss its study, experiment and loss there, and the digests of its files.

    Args:
        spec: the losses.
        root: folder of the study, R.
        sources: the folders of their runs; see `nclens.workflow.paths.StudyFolder`.
        digests: of each loss's files when the workflow was planned; None for no comparison.

    Raises:
        FileError: a file is missing, damaged, or has changed since the workflow was planned.
        ValueError: a run is of other data; names it with both values.
    """
    folder = StudyFolder(root, sources)
    for item, run in reused_runs(spec, folder):
        where = f"{item.experiment}: {item.loss} of the study {item.study}"
        check_data(where, run, item.there.dataset, read_json(folder.manifest(item.dataset), "prepare"))
    files = reused_files(spec, folder, digest_of)
    found = digests_of(files)
    if digests not in (None, found):
        raise FileError(
            "a run of another study has changed since the workflow was planned: run the same command again, which "
            "reads it as it is then"
        )
    record: dict[str, Any] = {}
    for item in spec.reused:
        key = loss_path(item.dataset, item.model, item.loss)
        there = {"study": item.study, "experiment": item.there.experiment, "loss": item.loss_there}
        record[key] = there | {"sha256": found[key], "files": files[key]}
    write_json(folder.reused, record)
