"""Figures of the user's own: drawn by their function with our settings of Matplotlib, and shown as a whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nclens.figures.catalogue import GIVEN
from nclens.figures.inputs import Drawing, FigureInputs
from nclens.figures.style import look

#: Columns of names, which are categories in the study's table.
NAMES = ("experiment", "dataset", "model", "loss", "split", "metric")


def drawn_by(draw: Callable[..., Any], names: Collection[str], inputs: FigureInputs) -> Drawing:
    """Return the figure that a function draws, and the table that it shows.

    Args:
        draw: a function of the experiment's metrics, a table with names as text, and of what it names. It may use
            pyplot, whose backend is then Agg. It returns a figure, or a figure and the table that it shows, by default
            the metrics.
        names: its parameters; of `nclens.figures.catalogue.GIVEN` it gets those that are among them.
        inputs: what figures are drawn from.

    Raises:
        TypeError: it returns something else; says what.
    """
    table = inputs.metrics.astype({name: object for name in NAMES if name in inputs.metrics}).reset_index(drop=True)
    wanted = {name: getattr(inputs, name) for name in GIVEN if name in names}
    with _without_windows(), look(), mpl.rc_context({"figure.constrained_layout.use": True}):
        found = draw(table.copy(), **wanted)
    figure, shown = found if isinstance(found, tuple) and len(found) == 2 else (found, table)
    if not isinstance(figure, Figure) or not isinstance(shown, pd.DataFrame):
        kinds = [type(part).__name__ for part in (found if isinstance(found, tuple) else [found])]
        raise TypeError(
            "must return a figure of Matplotlib (`matplotlib.figure.Figure`), or a figure and a table of pandas, not "
            + (", ".join(kinds) or "an empty tuple")
        )
    if not isinstance(figure.canvas, FigureCanvasAgg):
        FigureCanvasAgg(figure)
    figure.whole = True  # type: ignore[attr-defined]
    return Drawing(figure, shown)


@contextmanager
def _without_windows() -> Iterator[None]:
    """Let pyplot draw by Agg and keep none of the figures made; in a notebook it then draws again as before."""
    before = mpl.get_backend(auto_select=False)
    mpl.use("agg")
    there = set(pyplot.get_fignums())
    try:
        yield
    finally:
        for number in set(pyplot.get_fignums()) - there:
            pyplot.close(number)
        mpl.use(before or "agg")
