"""The function that draws a figure of the catalogue."""

from importlib import import_module

from nclens.figures.catalogue import FIGURES
from nclens.figures.inputs import Drawing, FigureInputs


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
