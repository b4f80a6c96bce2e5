"""The block as text, at two widths."""

import re

import pytest
from rich.console import Console

from snakemake_logger_plugin_nclens.screen import block, clock, spoken, summary
from snakemake_logger_plugin_nclens.state import Counts, Job, Picture, Training

NOW = 1000.0
STAGES = {
    "prepare": Counts(1, 1),
    "track": Counts(8, 1),
    "train": Counts(6, 2, 2, 1),
    "extract": Counts(6, 2),
    "measure": Counts(6, 1, 1),
    **dict.fromkeys(("theory", "collect", "predict", "draw", "judge", "report"), Counts(1)),
}


def job(stage, name, past, training=None):
    return Job(
        stage, f"mnist5k/resnet8/{name}", NOW - past, [f"results/digits/logs/{stage}/{name}.log"], None, training
    )


def picture(left=200.0, more=0):
    trainings = [
        job("train", f"ls/seed{number}", 40, Training(22, 60, 0.5123, 44, 0, NOW)) for number in range(1 + more)
    ]
    running = [job("train_b", "ce/seed0", 40, Training(23, 60, 0.01234, 41.0, 0, NOW)), *trainings]
    return Picture(133, left, STAGES, [*running, job("measure", "ls/seed7", 3)], [job("train", "ce/seed2", 9)], NOW)


def shown(renderable, width):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    return console.export_text()


@pytest.mark.parametrize("width", [80, 120])
def test_everything_is_in_the_block_at_every_width(width):
    text = shown(block(picture(), 30), width)
    assert all(len(line) <= width for line in text.splitlines())
    flat = " ".join(text.replace("\N{NO-BREAK SPACE}", " ").split())
    for part in (
        "study about 3 min 20 s left, 2 min 13 s so far",
        "runs 2 of 6 trained, 2 running, 1 waiting, 1 failed",
        "prepare 1/1 track 1/8 extract 2/6 measure 1/6 theory 0/1",
        "report 0/1",
        "train mnist5k/resnet8/ce/seed0 epoch 23/60 loss 0.01234 0:41 left",
        "train mnist5k/resnet8/ls/seed0 epoch 22/60 loss 0.5123 0:44 left",
        "measure mnist5k/resnet8/ls/seed7 0:03",
        "failed train mnist5k/resnet8/ce/seed2: results/digits/logs/train/ce/seed2.log",
    ):
        assert part in flat


def test_before_anything_is_measured_it_says_so():
    assert "estimating the time left, 2 min 13 s so far" in shown(block(picture(left=None), 30), 80)


def test_the_block_fits_on_the_screen():
    text = shown(block(picture(more=300), 24), 120)
    assert len(text.splitlines()) <= 23
    assert re.search(r"and 2\d\d more", text)


def test_one_line_stays():
    assert shown(summary(picture()), 80).strip() == "7 of 33 jobs done in 2 min 13 s, 1 failed"


def test_times():
    assert [spoken(t) for t in (0, 59.6, 125, 1500, 3_725)] == ["0 s", "1 min 0 s", "2 min 5 s", "25 min", "1 h 2 min"]
    assert [clock(t) for t in (3, 125, 3_725)] == ["0:03", "2:05", "1:02:05"]
