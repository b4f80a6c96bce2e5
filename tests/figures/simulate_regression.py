"""Inputs of the figures of regression, from simulated runs that were measured for real."""

from collections.abc import Callable, Sequence

import pandas as pd

from nclens.figures.inputs import FigureInputs
from nclens.ufm.regression import UnconstrainedRegression
from tests.claims.simulate_regression import (
    DECAYS,
    DIM,
    LAMBDA,
    simulate_predictions,
    simulate_regression,
    targets_of,
    tensors,
)

COLOURS = ("#440154", "#31688e", "#35b779", "#d8a400")
UFM = {"ufm": 0.0}


def theory_table(losses: Sequence[str], n: int) -> pd.DataFrame:
    """R/theory/regression.csv of an experiment."""
    model = UnconstrainedRegression(targets_of(n).numpy(), dim=DIM, lambda_w=LAMBDA, lambda_h_mean=LAMBDA)
    values = {f"gram_{i}{j}": model.gram[i, j] for i in range(n) for j in range(i, n)}
    values |= {"objective": model.objective}
    rows = [
        {"loss": loss, "quantity": name, "closed_form": value, "numeric": value * (1 + 1e-8), "relative_error": 1e-8}
        for loss in losses
        for name, value in values.items()
    ]
    keys = {"experiment": "reacher", "dataset": "reacher", "model": "mlp", "lambda_w": LAMBDA, "lambda_h_mean": LAMBDA}
    return pd.DataFrame(rows).assign(**keys)


def simulate(
    decays: dict[str, float] | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    epochs: int = 400,
    *,
    n: int = 2,
    regularised: bool = False,
    kept: bool = True,
    change: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
) -> FigureInputs:
    """Inputs made of a loss for each weight decay, or of one loss with the model's penalties.

    `kept` tells whether the first snapshot's features were.
    """
    decays = (UFM if regularised else DECAYS) if decays is None else decays
    metrics = simulate_regression(tuple(decays.items()), seeds, epochs, n=n, regularised=regularised)
    more = {"predictions": simulate_predictions(metrics, epochs, n=n)} if regularised else {}
    more |= {"regression": theory_table(list(decays), n)} if regularised else {}

    def features(loss, seed, epoch=epochs):
        return tensors(decays[loss], seed, epoch, epochs, n, regularised)

    return FigureInputs(
        experiment="reacher",
        metrics=change(metrics.copy()),
        theory=pd.DataFrame(columns=["loss", "quantity", "closed_form", "numeric"]),
        losses=list(decays),
        labels={loss: "penalties of the model" if regularised else loss for loss in decays},
        colours=dict(zip(decays, COLOURS, strict=False)),
        baseline=None,
        last_features=features,
        first_features=(lambda loss, seed: features(loss, seed, 0)) if kept else (lambda loss, seed: None),
        weight_decays=decays,
        regularised=regularised,
        **more,
    )
