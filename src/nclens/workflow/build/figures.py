"""The functions that draw figures: those of the catalogue, and the user's own."""

import inspect
from functools import partial
from importlib import import_module

from nclens.figures.catalogue import FIGURES
from nclens.figures.inputs import Drawing, FigureInputs
from nclens.figures.own import drawn_by
from nclens.workflow.build.functions import call, load_function
from nclens.workflow.specs import OwnFigure


def draw_figure(stem: str, inputs: FigureInputs) -> Drawing:
    """Draw a figure by its stem.

    Raises:
        ValueError: the catalogue has no such figure.
    """
    if stem not in FIGURES:
        raise ValueError(f"unknown figure {stem}; allowed: {', '.join(FIGURES)}")
    module, function = FIGURES[stem].draw.split(":")
    drawing: Drawing = getattr(import_module(module), function)(inputs)
    return drawing


def draw_own(entry: OwnFigure, inputs: FigureInputs) -> Drawing:
    """Draw a figure of the user's own.

    Raises:
        ValueError: the function fails, or returns something else than a figure; names it.
    """
    names = inspect.signature(load_function(entry.file, entry.function)).parameters
    try:
        return drawn_by(partial(call, entry.file, entry.function, **entry.arguments), names, inputs)
    except TypeError as error:
        raise ValueError(f"{entry.function} ({entry.file}) {error}") from None
