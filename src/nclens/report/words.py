"""Words and numbers as the page writes them, and what a study's experiments and losses are called."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd


def number(value: Any, digits: int = 3, *, trim: bool = False) -> str:
    """Return a number as it is written on the page, to so many significant digits; a dash where there is none.

    Zeros at the end of a measured number say how exact it is; `trim` leaves them out of one that was chosen.

    >>> number(0.35), number(1234.56), number(-2.5e-7), number(float("nan"))
    ('0.350', '1235', '−2.50×10⁻⁷', '–')
    >>> number(1e-6, trim=True), number(400, trim=True)
    ('1×10⁻⁶', '400')
    """
    if value is None or pd.isna(value):
        return "–"
    value = float(value)
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    mantissa = mantissa.rstrip("0").rstrip(".") if trim else mantissa
    if value == 0:
        text = "0"
    elif -4 < power < max(digits, 5):
        text = f"{value:.{max(0, digits - 1 - power)}f}"
        text = text.rstrip("0").rstrip(".") if trim and "." in text else text
    else:
        text = f"{mantissa}×10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """Return a time span in the two largest units that it fills.

    >>> duration(48.2), duration(192), duration(3900)
    ('48 s', '3 min 12 s', '1 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def as_text(value: Any) -> str:
    """A cell as text; numbers that are whole lose the point that an empty cell in their column gave them."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


QUANTITIES = {
    "logit_gap": "logit gap",
    "weight_norm": "norm of a class's weights",
    "feature_norm": "norm of a feature",
    "p_true": "probability of the true class",
    "p_other": "probability of each other class",
    "objective": "minimum of the objective",
    "kappa_ce": "condition number, cross entropy alone",
    "kappa_full": "condition number, whole objective",
    "kappa_full_features": "condition number, whole objective in the features",
    "kappa_full_range": "condition number, whole objective in the directions of cross entropy",
    "kappa_joint": "condition number, classifier and features together",
    "kappa_joint_logits": "condition number, together, directions that move the logits",
    "kappa_joint_scaled": "condition number, together, coordinates that scale both penalties to 1",
    **{
        f"iterations_{distance}_same_{step}": f"iterations to the {name}, same {words}"
        for distance, name in {"orbit": "minimisers", "logits": "logits", "nc1": "NC1", "nc2": "NC2"}.items()
        for step, words in {"fraction": "fraction of 1/L", "step": "step size"}.items()
    },
    **{
        f"{quantity}_by_{kind}_penalties": f"{name}, predicted by {kind} penalties"
        for quantity, name in {
            "logit_gap": "logit gap",
            "confidence": "confidence",
            "weight_norm": "classifier norm",
            "feature_norm": "feature norm",
        }.items()
        for kind in ("explicit", "effective")
    },
    "d_within_train": "spread within classes, training set",
    "d_within_test": "spread within classes, test set",
    "probe_accuracy": "accuracy of the linear probe",
    "confidence_incorrect": "confidence on wrong predictions",
    "top_logit_gap_incorrect": "lead of the top logit on wrong predictions",
    "epochs_to_train_error": "epochs to the training error",
    "ece_against_scaled": "ECE, 15 bins, against the scaled baseline",
    "ece_adaptive_against_scaled": "adaptive ECE, against the scaled baseline",
    "template_spread_train": "spread of the clusters on the templates, training set",
    "template_spread_test": "spread of the clusters on the templates, test set",
    "nc1_quotient_train": "spread of the clusters in all directions, training set",
    "mutual_information_minus_log_2": "mutual information, above log 2",
    "mutual_information": "mutual information, above the baseline's",
    "student_error_against_best_temperature": "the student's error, against cross entropy's at the best temperature",
    "student_error_against_mean_temperature": "the student's error, against cross entropy's at all temperatures",
    "student_error_against_smoothed": "the student's error, against the network trained with smoothing itself",
    "teacher_error": "the teacher's error, against cross entropy's",
    "gradient_variance_at_loss_weights": "gradient variance along the loss's training",
    "gradient_variance_at_loss_weights_at_end": "gradient variance at the end of the loss's training",
    "gradient_variance_of_head_at_loss_weights": "gradient variance of the classifier, along the loss's training",
    "gradient_variance_at_baseline_weights": "gradient variance along the baseline's training",
    "gradient_variance_at_baseline_weights_early": "gradient variance early in the baseline's training",
    **{
        f"{key}_end_over_{reference}": f"{name} at the end, over {words}"
        for key, name in {
            **{f"nc{k}": f"NC{k}" for k in (1, 2, 3)},
            **{f"nrc{k}": f"NRC{k}" for k in (1, 2, 3)},
            **{f"onehot_nrc{k}": f"NRC{k} of one-hot targets" for k in (1, 2, 3)},
            "residual_anisotropy": "anisotropy of the residuals' covariance",
        }.items()
        for reference, words in {"highest": "its highest value", "no_decay": "its value without weight decay"}.items()
    },
    "gram_by_explicit_penalties": "error of the head's W W′",
    "weight_norm_frobenius_by_explicit_penalties": "error of the head's norm",
    "feature_norm_rms_by_explicit_penalties": "error of the features' norm",
    "residual_deviation": "distance of the residuals' covariance to c I",
    "residual_variance": "mean variance of the residuals",
    "weight_norm_frobenius": "norm of the head",
    "feature_norm_rms": "root mean square norm of the features",
    "mse": "mean squared error",
    "ece": "ECE, 15 bins",
    "ece_20": "ECE, 20 bins",
    "ece_25": "ECE, 25 bins",
    "ece_adaptive": "adaptive ECE",
    "ece_classwise": "classwise ECE",
}
"""What quantities are called whose keys do not say it themselves."""
WORDS = {"nc1": "NC1", "nc2": "NC2", "nc3": "NC3", "nc4": "NC4", "ece": "ECE", "nll": "NLL", "percent": "%"}


def readable(key: str) -> str:
    """Return what a quantity is called; the name of a probe stands after a slash.

    >>> readable("epochs_to_final_nc1"), readable("ece_20"), readable("")
    ('epochs to final NC1', 'ECE, 20 bins', '')
    >>> readable("mutual_information_minus_log_2/four_nine")
    'mutual information, above log 2 (four_nine)'
    """
    quantity, _, probe = key.partition("/")
    words = QUANTITIES.get(quantity, " ".join(WORDS.get(word, word) for word in quantity.split("_")).replace(" %", "%"))
    return f"{words} ({probe})" if probe else words


def sentence(text: str) -> str:
    """Return a text opened by a capital, unless its first word is a key or a symbol.

    >>> sentence("the main measure"), sentence("nc1 in common"), sentence("")
    ('The main measure', 'nc1 in common', '')
    """
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


def listed(words: Iterable[str]) -> str:
    """Return the words as a list in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = list(words)
    return f"{', '.join(first)} and {last}" if first else last


def plural(amount: int, noun: str) -> str:
    """Return an amount with its noun.

    >>> plural(1, "seed"), plural(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{amount} {noun}" + ("" if amount == 1 else "s")


class Names:
    """What the study's experiments and losses are called."""

    def __init__(self, study: Mapping[str, Any]) -> None:
        self.experiments = {entry["name"]: entry for entry in study["experiments"]}
        for entry in self.experiments.values():
            for loss, looks in entry["losses"].items():
                if not re.fullmatch(r"#[0-9A-Fa-f]{6}", looks["colour"]):
                    raise ValueError(f"colour of loss {loss}: {looks['colour']!r}; allowed: #rrggbb")

    def task(self, experiment: str) -> str:
        """Return the task of an experiment, classification unless it says otherwise."""
        return self.experiments.get(experiment, {}).get("task", "classification")

    def of_task(self, task: str) -> dict[str, Any]:
        """Return the experiments of a task, by name."""
        return {name: entry for name, entry in self.experiments.items() if self.task(name) == task}

    def loss(self, experiment: str, entry: str) -> dict[str, str]:
        """Return label and colour of a loss; its own name where the study does not know it."""
        looks = self.experiments.get(experiment, {"losses": {}})["losses"].get(entry, {})
        return {"label": looks.get("label", entry), "colour": looks.get("colour", "")}

    def where(self, experiment: str) -> str:
        """Data set and model of an experiment, with its name where these do not single it out."""
        entry = self.experiments[experiment]
        key = (entry["dataset"], entry["model"])
        alone = [(other["dataset"], other["model"]) for other in self.experiments.values()].count(key) == 1
        return ", ".join(key) if alone else f"{', '.join(key)} ({experiment})"

    def facts(self) -> list[str]:
        """Return one line an experiment: what was trained, how often, how long."""
        return [
            f"{self.where(name)}: {listed(looks['label'] for looks in entry['losses'].values())}; "
            f"{plural(len(entry['seeds']), 'seed')}, {plural(entry['epochs'], 'epoch')}"
            for name, entry in self.experiments.items()
        ]

    def runs(self) -> Iterable[tuple[str, tuple[str, str, str, int]]]:
        """Each run of the study as (experiment, (dataset, model, loss, seed))."""
        for name, entry in self.experiments.items():
            for loss in entry["losses"]:
                for seed in entry["seeds"]:
                    yield name, (entry["dataset"], entry["model"], loss, seed)
