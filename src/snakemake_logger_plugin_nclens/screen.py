"""How a study looks in the terminal while it runs."""

import os
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from snakemake_logger_plugin_nclens.state import RUNS, Counts, Job, Picture, Study, stage_of

#: Columns and lines of a terminal that does not say.
DEFAULT_SIZE = (80, 24)
#: Lines of the block that are no jobs.
FRAME = 8


class Screen:
    """Draws a study on a terminal, twice a second.

    Args:
        study: what is drawn.
        terminal: file descriptor of the terminal; closed at the end.
        plain: without colours.
    """

    def __init__(self, study: Study, terminal: int, plain: bool) -> None:
        self._study = study
        self._file = os.fdopen(terminal, "w", encoding="utf-8", errors="replace")
        self._console = Console(file=self._file, no_color=plain or None, highlight=False, soft_wrap=False)
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self) -> None:
        """Show the block."""
        self._live.start()

    def say(self, text: str, error: bool) -> None:
        """Print lines that stay, above the block."""
        self._console.print(Text(text, style="red" if error else "yellow"), soft_wrap=True)

    def stop(self) -> None:
        """Remove the block, and leave one line."""
        self._live.stop()
        self._console.print(summary(self._study.picture(time.time())))
        self._file.close()

    def _draw(self) -> RenderableType:
        # Rich looks at descriptors 0 to 2, which may be no terminal now. Some terminals do not know their size.
        size = os.get_terminal_size(self._file.fileno())
        self._console.size = size if all(size) else DEFAULT_SIZE
        return block(self._study.picture(time.time()), self._console.size.height)


def block(picture: Picture, lines: int) -> RenderableType:
    """Return the block: the study, its runs, its other jobs, what is running and what has failed."""
    stages = dict(picture.stages)
    runs = stages.pop(RUNS, None)
    total, done = _sums(picture)
    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(style="bold", min_width=5, no_wrap=True)
    head.add_column(ratio=1)
    left = "estimating the time left" if picture.left is None else f"about {spoken(picture.left)} left"
    head.add_row("study", Text(f"{left}, {spoken(picture.past)} so far", style="bold cyan"))
    share = done / max(total, 1) if picture.left is None else picture.past / max(picture.past + picture.left, 1.0)
    head.add_row("", ProgressBar(total=1.0, completed=share, width=40, complete_style="cyan"))
    if runs is not None:
        head.add_row("runs", _counted(runs))
    head.add_row("jobs", _others(stages))
    room = max(3, lines - FRAME)
    failed = picture.failed[-max(1, room // 3) :]
    parts: list[RenderableType] = [Text(), head]
    if picture.running:
        parts.append(_running(picture, room - len(failed)))
    if failed:
        parts.append(_failed(picture.failed, failed))
    return Group(*parts)


def _sums(picture: Picture) -> tuple[int, int]:
    counts = picture.stages.values()
    return sum(stage.total for stage in counts), sum(stage.done for stage in counts)


def _counted(counts: Counts) -> Text:
    text = Text(f"{counts.done} of {counts.total} trained, {counts.running} running, {counts.waiting} waiting")
    if counts.failed:
        text.append(f", {counts.failed} failed", style="bold red")
    return text


def _others(stages: dict[str, Counts]) -> Text:
    """Return how far each other stage is; those that have ended or begun first."""
    text = Text()
    for name, counts in sorted(stages.items(), key=lambda item: not (item[1].done or item[1].running)):
        style = "bold red" if counts.failed else "bold" if counts.running else "green" if not counts.waiting else "dim"
        text.append(f"{name}\N{NO-BREAK SPACE}{counts.done}/{counts.total}", style=style).append("  ")
    return text


def _running(picture: Picture, room: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for _ in range(3):
        table.add_column(no_wrap=True, justify="right")
    jobs = sorted(picture.running, key=lambda job: (job.training is None, job.begun))
    shown = jobs if len(jobs) <= room else jobs[: max(1, room - 1)]
    for job in shown:
        table.add_row(Text(stage_of(job.rule), style="bold"), job.name, *_state(job, picture.now))
    if len(shown) < len(jobs):
        table.add_row("", f"and {len(jobs) - len(shown)} more")
    return table


def _state(job: Job, now: float) -> tuple[str, str, str]:
    training = job.training
    if training is None:
        return "", "", clock(now - job.begun)
    left = training.left_at(now)
    loss = "" if training.loss is None else f"loss {training.loss:.4g}"
    return f"epoch {training.epoch}/{training.epochs}", loss, "" if left is None else f"{clock(left)} left"


def _failed(jobs: list[Job], shown: list[Job]) -> Group:
    """Return the last jobs that failed, each with its log."""
    lines = [
        Text(f"failed  {stage_of(job.rule)} {job.name}: {', '.join(job.logs) or 'no log'}", style="red")
        for job in shown
    ]
    if len(shown) < len(jobs):
        lines.insert(0, Text(f"failed  {len(jobs) - len(shown)} more, above", style="red"))
    return Group(*lines)


def summary(picture: Picture) -> Text:
    """Return the line that stays: jobs done and failed, and the time taken."""
    total, done = _sums(picture)
    text = Text(
        f"{done} of {total} jobs done in {spoken(picture.past)}", style="bold green" if done == total else "bold"
    )
    if picture.failed:
        text.append(f", {len(picture.failed)} failed", style="bold red")
    return text


def spoken(seconds: float) -> str:
    """Return a time in the units that it needs, such as `2 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def clock(seconds: float) -> str:
    """Return a time as `m:ss`, or `h:mm:ss` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
