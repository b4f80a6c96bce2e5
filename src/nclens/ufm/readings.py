"""Old names of `nclens.ufm.explanations`."""

# Delete once report/ and figures/ import nclens.ufm.explanations (column `predictor`) and
# nclens.ufm.spectra.CONDITION_NUMBERS.

import pandas as pd

from nclens.ufm.explanations import TOLERANCE, relative_iterations, trend, verdict
from nclens.ufm.explanations import explanations as _explanations
from nclens.ufm.spectra import CONDITION_NUMBERS as READINGS

__all__ = ["READINGS", "TOLERANCE", "explanations", "relative_iterations", "trend", "verdict"]


def explanations(ratios: pd.DataFrame) -> pd.DataFrame:
    """Return `nclens.ufm.explanations.explanations` with its column `predictor` named `reading`."""
    return _explanations(ratios).rename(columns={"predictor": "reading"})
