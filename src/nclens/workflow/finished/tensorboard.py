"""A finished study for TensorBoard."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from nclens.workflow.files import FileError, no_folder, not_written, read_json, write_json
from nclens.workflow.finished.records import Record, figure_files, records, verdicts

if TYPE_CHECKING:
    from nclens.workflow.finished.study import FinishedStudy

#: The file that says whose folder it is.
MARK = "nclens.json"
#: Metrics that TensorBoard compares runs by, beside their parameters.
COMPARED = ("train/nc1", "train/nc2", "train/nc3", "test/error", "test/ece", "train/nrc1", "train/nrc2", "test/mse")
#: Columns of a verdict that are shown.
SHOWN = ("claim", "statement", "experiment", "loss", "baseline", "effect", "low", "high", "unit", "verdict")


def write(study: FinishedStudy, folder: Path) -> Path:
    """Write a folder for TensorBoard, whole or not at all; see `FinishedStudy.to_tensorboard`."""
    _check(study, folder)
    study.require_current()
    with _replacing(folder) as made:
        for record in records(study):
            with _writer(made / record.path) as writer:
                _write_run(writer, record)
        with _writer(made / "study") as writer:
            for name, path in figure_files(study).items():
                with Image.open(path) as image:
                    writer.add_image(f"figures/{name}", np.asarray(image.convert("RGB")), dataformats="HWC")
            writer.add_text("verdicts", _markdown(verdicts(study)))
        write_json(made / MARK, {"study": study.name})
    return folder


def _check(study: FinishedStudy, folder: Path) -> None:
    """Refuse a folder with files that are not this study's record."""
    if (wrong := no_folder(folder)) not in (None, folder):
        raise FileError(f"{folder}: {wrong} is a file or a link to nothing; allowed: a folder")
    if folder.is_dir() and not any(folder.iterdir()):
        return
    mark = folder / MARK
    known = read_json(mark, "to_tensorboard") if mark.is_file() else {}
    if os.path.lexists(folder) and (not isinstance(known, dict) or known.get("study") != study.name):
        raise FileError(
            f"{folder} has other files than the study {study.name} for TensorBoard, which would be lost; allowed: a "
            f"new folder, an empty one, or one that to_tensorboard has written of {study.name}"
        )


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside one, and put it in its place when the block ends without an error."""
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        if isinstance(error, FileError) or error.errno is None:
            raise
        raise not_written(folder, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _writer(folder: Path) -> Iterator[SummaryWriter]:
    writer = SummaryWriter(str(folder))
    try:
        yield writer
    finally:
        writer.close()


def _write_run(writer: SummaryWriter, record: Record) -> None:
    for name, value, epoch in record.points:
        writer.add_scalar(name, value, epoch, walltime=record.ended)
    last = {name: value for name, value, _ in record.points if name in COMPARED}
    # As `add_hparams` writes them, but into the run itself, not into one of its own below it.
    events: Any = writer.file_writer
    for summary in hparams(record.parameters, last):
        events.add_summary(summary)


def _markdown(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(SHOWN)} |", f"|{' --- |' * len(SHOWN)}"]
    for row in rows:
        cells = ("" if row[key] is None else _text(row[key]) for key in SHOWN)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
