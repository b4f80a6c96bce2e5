"""Drawing of a finished study's figures: one layout for PNG and PDF against a layout for each, in this process.

    python benchmarks/drawing.py results/digits [--study workflow_config.yaml] [--rounds 3]

The study's figures are drawn, none is written. Both ways alternate; times are CPU seconds (user and system), which
other jobs disturb less than wall time, medians over the rounds. The PNG of both ways must be the same bytes.
"""

import argparse
import io
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

from nclens.figures import style
from nclens.study import read_study
from nclens.workflow import specs
from nclens.workflow.check import check_study
from nclens.workflow.paths import StudyFolder
from nclens.workflow.stages import draw as stage


def each_its_layout(figure, kind, dpi=style.DPI):
    """Encode a figure as it was before: constrained layout is computed again for each kind of file."""
    if kind == "svg":
        return encode(figure, kind)
    file = io.BytesIO()
    with style.look():
        figure.savefig(file, format=kind, dpi=dpi, metadata={"Software": None} if kind == "png" else None)
    return file.getvalue()


encode = style.encode


def drawn(spec, folder, way):
    """Return the CPU seconds and every figure's PNG."""
    pictures = {}

    def keep(name, stem, inputs, make=stage._drawn):
        pictures[name] = (content := make(name, stem, inputs))["png"]
        return content

    tables = {name: folder.theory(name) for name in ("dynamics", "predictions", "regression")}
    start = time.process_time()
    with mock.patch.multiple(stage, encode=way, _drawn=keep, atomic_write=mock.MagicMock()):
        stage.draw(spec, folder.metrics, folder.theory("ufm"), folder.root, **tables)
    return time.process_time() - start, pictures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--study", type=Path, default=Path(__file__).parents[1] / "workflow_config.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    spec = specs.draw(check_study(read_study(options.study), [options.study.parent]))
    folder = StudyFolder(options.root)
    drawn(spec, folder, encode)  # loads what is needed
    ways = {"a layout for each": each_its_layout, "one layout": encode}
    seconds = {name: [] for name in ways}
    for _ in range(options.rounds):
        pictures = []
        for name, way in ways.items():
            taken, found = drawn(spec, folder, way)
            seconds[name].append(taken)
            pictures.append(found)
        if pictures[0] != pictures[1]:
            sys.exit("the pictures differ")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:20}{value:8.2f} s")
    print(f"{'ratio':20}{medians['one layout'] / medians['a layout for each']:8.2f}")


if __name__ == "__main__":
    main()
