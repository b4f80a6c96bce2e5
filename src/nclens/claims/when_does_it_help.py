"""The claims of "When Does Label Smoothing Help?", arXiv 1906.02629.

How each claim is measured, and every margin, is our choice, stated in its `rule`.
"""

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from nclens.claims import margins
from nclens.claims.effects import curves_of, final
from nclens.claims.verdict import Claim, Comparison, Measure, judge_pairs, judge_within, log_ratio

PAPER = "When Does Label Smoothing Help? (arXiv 1906.02629)"

ECE_MARGIN = margins.ECE.size
"""A calibration error that is higher by less counts as no worse; the paper itself has .024 and .021."""
INFORMATION_MARGIN = margins.INFORMATION.size
"""Nats about log 2 that count as near it: about the bias of the estimate at five draws."""
ONE = "ece_by_temperature/1"
"""A metric that each probe of decoding has."""
DECODED = {"ece": "difference in ECE", "error": "difference in error"}
"""Score of decoding at a temperature -> unit of a difference, the main one first."""
ROUND = 1.5
"""The factor from 1 up to which a ratio of variances counts as that of a round cluster; an arc's is less by more."""
ERROR_MARGIN = 0.005
"""An error that is lower by less counts as no better: five of a thousand test samples."""


def replaces_scaling(comparison: Comparison) -> list[Measure]:
    """W1: calibration error of the loss as it is minus that of the baseline after temperature scaling, test set."""
    measures = []
    for metric in ("ece", "ece_adaptive"):
        own = _last(comparison, comparison.loss, "test", f"{metric}_unscaled")
        scaled = _last(comparison, comparison.baseline, "test", f"{metric}_scaled")
        measures.append(
            judge_pairs(
                f"{metric}_against_scaled",
                {seed: own[seed] - scaled[seed] for seed in own if seed in scaled},
                comparison.seeds,
                scale="difference",
                claimed="below",
                unit="difference in ECE",
                null=ECE_MARGIN,
            )
        )
    return measures


def tightens_clusters(comparison: Comparison) -> list[Measure]:
    """W2: ratios of the clusters' spread relative to the distance of their centres, after the last epoch."""
    return [
        final(comparison, split, metric, scale="ratio", quantity=f"{metric}_{split}")
        for split, metric in (("train", "template_spread"), ("test", "template_spread"), ("train", "nc1_quotient"))
    ]


def erases_information(comparison: Comparison) -> list[Measure]:
    """W3: mutual information of the loss minus log 2, and minus the baseline's, after the last epoch.

    None without a probe.
    """
    measures = []
    for metric in comparison.metrics.probed("mutual_information"):
        own, base = (_last(comparison, loss, "train", metric) for loss in comparison.pair)
        effects = {seed: value - math.log(2) for seed, value in own.items()}
        suffix = metric.removeprefix("mutual_information")
        measures.append(
            judge_within(
                f"mutual_information_minus_log_2{suffix}",
                effects,
                comparison.seeds,
                INFORMATION_MARGIN,
                scale="difference",
                unit="nats",
            )
        )
        effects = {seed: own[seed] - base[seed] for seed in own if seed in base}
        measures.append(_difference(comparison, metric, effects, "nats"))
    return measures


def distils_worse(comparison: Comparison) -> list[Measure]:
    """W5: error of a smoothed teacher's student minus that of cross entropy's at T > 1; and the teachers' errors.

    Of the temperatures that cross entropy's students have, one comparison is judged: with the best.
    """
    candidates = _students_of_the_same_teacher(comparison)
    if not candidates:
        return []
    errors = {loss: _last(comparison, loss, "test", "error") for loss in candidates}
    best = min(candidates, key=lambda loss: _mean(errors[loss]))
    if comparison.baseline != best:
        return []
    own = _last(comparison, comparison.loss, "test", "error")
    complete = [seed for seed in own if all(seed in of_loss for of_loss in errors.values())]
    teachers, others = (_last(comparison, loss, "test", "teacher_error") for loss in (comparison.loss, best))
    effects = {
        "student_error_against_best_temperature": {s: own[s] - errors[best][s] for s in own if s in errors[best]},
        "student_error_against_mean_temperature": {
            s: own[s] - sum(of_loss[s] for of_loss in errors.values()) / len(errors) for s in complete
        },
    }
    unit = "difference in error"
    measures = [
        judge_pairs(quantity, values, comparison.seeds, scale="difference", claimed="above", unit=unit)
        for quantity, values in effects.items()
    ]
    of_teachers = {seed: teachers[seed] - others[seed] for seed in teachers if seed in others}
    return [*measures, _difference(comparison, "teacher_error", of_teachers, unit)]


def no_better_than_smoothing(comparison: Comparison) -> list[Measure]:
    """W6: error of a smoothed teacher's student minus that of the same network trained with label smoothing itself."""
    own, alone = (_last(comparison, loss, "test", "error") for loss in comparison.pair)
    return [
        judge_pairs(
            "student_error_against_smoothed",
            {seed: own[seed] - alone[seed] for seed in own if seed in alone},
            comparison.seeds,
            scale="difference",
            claimed="above",
            unit="difference in error",
            null=-ERROR_MARGIN,
        )
    ]


def calibrates_tokens(comparison: Comparison) -> list[Measure]:
    """W7: ECE of the next token at temperature 1, loss minus baseline; none without a probe."""
    return [
        final(comparison, "test", metric, scale="difference", unit="difference in ECE", quantity=f"token_ece{suffix}")
        for suffix in _decoded(comparison)
        for metric in [f"ece_by_temperature/1{suffix}"]
    ]


def softens_a_little(comparison: Comparison) -> list[Measure]:
    """W8: the baseline at its best temperature above 1, minus itself at 1, and minus the loss at 1."""
    measures = []
    for suffix in _decoded(comparison):
        for name in DECODED:
            own, base = (_by_temperature(comparison, loss, name, suffix) for loss in comparison.pair)
            above = {at: values for at, values in base.items() if at > 1}
            if above and 1.0 in own and 1.0 in base:
                best = min(above.values(), key=_mean)
                of_itself, left = f"softened_{name}{suffix}", f"softened_{name}_left{suffix}"
                measures.append(_difference(comparison, of_itself, _less(best, base[1.0]), DECODED[name]))
                measures.append(_above(comparison, left, _less(best, own[1.0]), DECODED[name]))
    return measures


def is_best_unscaled(comparison: Comparison) -> list[Measure]:
    """W9: the loss at its best temperature other than 1, minus itself at 1."""
    measures = []
    for suffix in _decoded(comparison):
        for name in DECODED:
            own = _by_temperature(comparison, comparison.loss, name, suffix)
            unscaled = own.pop(1.0, {})
            if own:
                effects = _less(min(own.values(), key=_mean), unscaled)
                measures.append(_above(comparison, f"scaled_{name}{suffix}", effects, DECODED[name]))
    return measures


def costs_likelihood(comparison: Comparison) -> list[Measure]:
    """W10: NLL of the next token, loss minus baseline, at the temperature where the loss does best against it."""
    measures = []
    for suffix in _decoded(comparison):
        own, base = (_by_temperature(comparison, loss, "nll", suffix) for loss in comparison.pair)
        if effects := [_less(own[at], base[at]) for at in own if at in base]:
            measures.append(_above(comparison, f"token_nll{suffix}", min(effects, key=_mean), "nats"))
    return measures


def predicts_the_temperature(comparison: Comparison) -> list[Measure]:
    """W11: distance of the temperature of the least ECE from that of the least error, minus that of the least NLL."""
    measures = []
    for suffix in _decoded(comparison):
        curves = [_by_temperature(comparison, comparison.loss, name, suffix) for name in ("error", "ece", "nll")]
        if not all(curves):
            continue
        effects, step = {}, 0.0
        for seed in comparison.seeds:
            if all(seed in values for curve in curves for values in curve.values()):
                best = [min(curve, key=partial(_value, curve, seed)) for curve in curves]
                step = max(step, *(_step(list(curve), at) for curve, at in zip(curves, best, strict=True)))
                beam, ece, nll = map(math.log, best)
                effects[seed] = abs(ece - beam) - abs(nll - beam)
        measures.append(
            judge_pairs(
                f"temperature_distance{suffix}",
                effects,
                comparison.seeds,
                scale="difference",
                claimed="below",
                unit="log temperature",
                # One step to either side, and no less by rounding: of one step nothing is known.
                resolution=2 * step * (1 + 1e-9),
            )
        )
    return measures


def _step(temperatures: list[float], at: float) -> float:
    """Return the larger step from a temperature to those beside it, on the log scale."""
    place = temperatures.index(at)
    beside = temperatures[max(0, place - 1) : place] + temperatures[place + 1 : place + 2]
    return max((abs(math.log(other / at)) for other in beside), default=0.0)


def bends_similar_classes(comparison: Comparison) -> list[Measure]:
    """W12: arc ratio of two similar classes, loss over baseline, test set; each by itself; and on the training set.

    None where no arcs are measured.
    """
    if "arc_ratio" not in comparison.metrics.metrics_of(comparison.loss):
        return []
    own, base = (
        {seed: log_ratio(value, 1.0) for seed, value in _last(comparison, loss, "test", "arc_ratio").items()}
        for loss in comparison.pair
    )
    unit, seeds = "ratio of variances", comparison.seeds
    bent = judge_pairs("bent_test", own, seeds, scale="ratio", claimed="below", unit=unit, null=1 / ROUND)
    return [
        final(comparison, "test", "arc_ratio", scale="ratio", quantity="arc_ratio_test"),
        bent,
        judge_within("round_test", base, seeds, ROUND, scale="ratio", unit=unit),
        final(comparison, "train", "arc_ratio", scale="ratio", quantity="arc_ratio_train"),
    ]


def translates_better(comparison: Comparison) -> list[Measure]:
    """W13: BLEU and chrF of beam search at temperature 1, loss minus baseline; none without translations.

    The note has each seed's p-value, of a paired bootstrap over sentences.
    """
    measures = []
    for name in sorted(comparison.metrics.metrics_of(comparison.loss)):
        found = re.fullmatch(r"(bleu|chrf)_difference(/.+)?", name)
        if found is None:
            continue
        own = _last(comparison, comparison.loss, "test", name)
        values = _last(comparison, comparison.loss, "test", f"{found[1]}_difference_p{found[2] or ''}")
        listed = ", ".join(f"{value:.3g} (seed {seed})" for seed, value in values.items())
        notes = [f"p of the paired bootstrap over sentences: {listed}"]
        scale: dict[str, Any] = {"scale": "difference", "claimed": "above", "unit": "points"}
        measures.append(judge_pairs(name, own, comparison.seeds, notes=notes, **scale))
    return measures


def _less(values: Mapping[int, float], others: Mapping[int, float]) -> dict[int, float]:
    """The differences of the seeds that have both."""
    return {seed: value - others[seed] for seed, value in values.items() if seed in others}


def _value(curve: Mapping[float, Mapping[int, float]], seed: int, at: float) -> float:
    return _finite(curve[at][seed])


def _decoded(comparison: Comparison) -> list[str]:
    """Return what follows the metrics of each probe of decoding of the loss: nothing, or its name after a slash."""
    names = comparison.metrics.metrics_of(comparison.loss)
    return sorted(name.removeprefix(ONE) for name in names if name == ONE or name.startswith(f"{ONE}/"))


def _by_temperature(comparison: Comparison, loss: str, name: str, suffix: str) -> dict[float, dict[int, float]]:
    """Return a score of decoding after the last epoch: temperature -> seed -> value, ascending.

    `error` of text is 1 - BLEU / 100.
    """
    pattern = re.compile(rf"{name}_by_temperature/([0-9.e+-]+){re.escape(suffix)}")
    found = {float(one[1]): one[0] for each in comparison.metrics.metrics_of(loss) if (one := pattern.fullmatch(each))}
    if name == "error" and not found:
        of_text = _by_temperature(comparison, loss, "bleu", suffix)
        return {at: {seed: 1 - bleu / 100 for seed, bleu in values.items()} for at, values in of_text.items()}
    return {at: _last(comparison, loss, "test", found[at]) for at in sorted(found)}


def _students_of_the_same_teacher(comparison: Comparison) -> list[str]:
    """Students at T > 1 with the baseline's teacher and weight; none if the loss differs in experiment or weight."""
    own, other = comparison.teachers[comparison.loss], comparison.teachers[comparison.baseline]
    if (own["experiment"], own["weight"]) != (other["experiment"], other["weight"]):
        return []
    keys = ("experiment", "loss", "weight")
    return [
        loss
        for loss, teacher in comparison.teachers.items()
        if teacher["temperature"] > 1 and all(teacher[key] == other[key] for key in keys)
    ]


def _mean(values: Mapping[int, float]) -> float:
    """The mean, infinite where it is not defined."""
    return _finite(sum(values.values()) / len(values) if values else math.nan)


def _finite(value: float) -> float:
    """The value, infinite where it is not defined."""
    return value if math.isfinite(value) else math.inf


def _last(comparison: Comparison, loss: str, split: str, metric: str) -> dict[int, float]:
    """A metric after the last epoch, by seed."""
    return {seed: float(curve.iloc[-1]) for seed, curve in curves_of(comparison, loss, split, metric).items()}


def _above(comparison: Comparison, quantity: str, effects: Mapping[int, float], unit: str) -> Measure:
    return judge_pairs(quantity, effects, comparison.seeds, scale="difference", claimed="above", unit=unit)


def _difference(comparison: Comparison, quantity: str, effects: Mapping[int, float], unit: str) -> Measure:
    return judge_pairs(quantity, effects, comparison.seeds, scale="difference", claimed="below", unit=unit)


CLAIMS = (
    Claim(
        "W1",
        PAPER,
        "Label smoothing calibrates as well as temperature scaling does, without any scaling.",
        "Expected calibration error of label smoothing as it is, minus that of the baseline after temperature scaling, "
        "after the last epoch: 15 bins (the main measure) and adaptive, on the test samples that the temperature was "
        f"not fitted on. Up to {ECE_MARGIN:g} more counts as no worse, a margin of ours: a measure is "
        "supported when its whole interval lies below the margin, contradicted when it lies above.",
        replaces_scaling,
        labels={
            "ece_against_scaled": "ECE, 15 bins, T fitted on other samples, against the scaled baseline",
            "ece_adaptive_against_scaled": "adaptive ECE, T fitted on other samples, against the scaled baseline",
        },
        subject="label smoothing",
        holds="calibrates as well as temperature scaling",
        fails="calibrates worse than temperature scaling",
        below="as well calibrated",
        figures=("ece_temperature", "reliability"),
    ),
    Claim(
        "W2",
        PAPER,
        "Label smoothing draws the samples of a class into tight clusters at the corners of a simplex.",
        "Ratios, after the last epoch, of the spread on the templates: the mean squared distance of features from "
        "their class mean over that of the class means from their centre, both in the span of the differences of "
        "the classifier's rows, for all classes (the paper's figure has three). Training set (the main measure) and "
        "test set; and of the same in the whole feature space, training set.",
        tightens_clusters,
        labels={
            "template_spread_train": "spread of the clusters on the templates, training set",
            "template_spread_test": "spread of the clusters on the templates, test set",
            "nc1_quotient_train": "spread of the clusters in all directions, training set",
        },
        margins=dict.fromkeys(
            ("template_spread_train", "template_spread_test", "nc1_quotient_train"), margins.COLLAPSE
        ),
        subject="label smoothing",
        holds="draws tighter clusters",
        fails="draws looser clusters",
        below="more collapsed",
        figures=("projections",),
    ),
    Claim(
        "W3",
        PAPER,
        "Label smoothing erases information on single inputs: their mutual information with the logits ends near log "
        "2.",
        "Mutual information between input and the logit difference of two classes under random augmentation, after the "
        "last epoch, training set: minus log 2, what the class alone is worth (the main measure), supported when the "
        f"whole interval lies within ±{INFORMATION_MARGIN:g} nats, about the bias of the estimate, and contradicted "
        "when it lies beyond; and minus the baseline's.",
        erases_information,
        labels={
            "mutual_information_minus_log_2": "mutual information, above log 2",
            "mutual_information": "mutual information, above the baseline's",
        },
        margins={"mutual_information": margins.INFORMATION},
        subject="label smoothing",
        holds="erases information on single inputs",
        fails="does not erase the information on single inputs",
        below="less information",
        figures=("mutual_information",),
    ),
    Claim(
        "W5",
        PAPER,
        "A teacher trained with label smoothing is more accurate and yet teaches worse than one trained with cross "
        "entropy, given a temperature.",
        "Differences, after the last epoch, test set: error of the smoothed teacher's student minus that of cross "
        "entropy's at the temperature above 1 whose students have the lowest mean error (the main measure; that the "
        "temperature is chosen on the test set favours the claim), and minus the mean over all temperatures above 1; "
        "and error of the smoothed teacher minus that of cross entropy's. The weight of the teacher is the same.",
        distils_worse,
        labels={
            "student_error_against_best_temperature": "the student's error, against cross entropy's at the best "
            "temperature",
            "student_error_against_mean_temperature": "the student's error, against cross entropy's at all "
            "temperatures",
            "teacher_error": "the teacher's error, against cross entropy's",
        },
        margins=dict.fromkeys(
            ("student_error_against_best_temperature", "student_error_against_mean_temperature", "teacher_error"),
            margins.ERROR,
        ),
        subject="a smoothed teacher",
        holds="teaches worse than one trained with cross entropy",
        fails="teaches better than one trained with cross entropy",
        below="teaches better",
        figures=("distillation",),
        compared=("distillation_ls",),
        against=("distillation_ce",),
    ),
    Claim(
        "W6",
        PAPER,
        "A student of a smoothed teacher is no better than the same network trained with label smoothing itself.",
        "Error of the student minus that of the same network trained alone with the teacher's smoothing, after the "
        f"last epoch, test set. Up to {ERROR_MARGIN:.1%} less counts as no better, a margin of ours: supported when "
        "the whole interval lies above minus the margin, contradicted when it lies below.",
        no_better_than_smoothing,
        labels={
            "student_error_against_smoothed": "the student's error, against the network trained with smoothing itself",
        },
        subject="a smoothed teacher",
        holds="teaches no better student than label smoothing itself trains",
        fails="teaches a better student than label smoothing itself trains",
        below="teaches better",
        figures=("distillation",),
        compared=("distillation_ls",),
        against=("ls",),
    ),
    Claim(
        "W7",
        PAPER,
        "Label smoothing calibrates the next token of a sequence.",
        "Difference, after the last epoch, test sequences: ECE (15 bins) of the next token, given the correct earlier "
        "ones, at temperature 1.",
        calibrates_tokens,
        labels={"token_ece": "ECE of the next token"},
        margins={"token_ece": margins.ECE},
        subject="label smoothing",
        holds="calibrates the next token better",
        fails="calibrates the next token worse",
        below="better calibrated",
        figures=("decoding",),
        place="section 3, beam search",
    ),
    Claim(
        "W8",
        PAPER,
        "A temperature above 1 calibrates a network trained with cross entropy and helps its beam search a little, but "
        "never to the level of label smoothing.",
        "Differences, after the last epoch, test sequences, of the baseline at the temperature above 1 where its mean "
        "over seeds is lowest: minus itself at 1, and minus label smoothing at 1; of ECE of the next token (the main "
        "measure is the first) and of the token error rate of beam search, 1 - BLEU / 100 of text. That the "
        "temperature is chosen on the same sequences favours the first part of the claim and works against the second.",
        softens_a_little,
        labels={
            "softened_ece": "ECE of cross entropy at its best T above 1, against T = 1",
            "softened_ece_left": "ECE of cross entropy at its best T above 1, against label smoothing",
            "softened_error": "error of cross entropy at its best T above 1, against T = 1",
            "softened_error_left": "error of cross entropy at its best T above 1, against label smoothing",
        },
        margins={
            **dict.fromkeys(("softened_ece", "softened_ece_left"), margins.ECE),
            **dict.fromkeys(("softened_error", "softened_error_left"), margins.ERROR),
        },
        subject="a temperature above 1",
        holds="calibrates cross entropy",
        fails="does not calibrate cross entropy",
        below="lower",
        figures=("decoding",),
        place="section 3, figure 4",
    ),
    Claim(
        "W9",
        PAPER,
        "Any temperature other than 1 hurts a network trained with label smoothing.",
        "Differences, after the last epoch, test sequences, of label smoothing at the temperature other than 1 where "
        "its mean over seeds is lowest, minus itself at 1: ECE of the next token (the main measure) and token error "
        "rate of beam search, 1 - BLEU / 100 of text. The temperatures are those of the probe; the nearer to 1, the "
        "harder the claim.",
        is_best_unscaled,
        labels={
            "scaled_ece": "ECE at the best T other than 1, against T = 1",
            "scaled_error": "error at the best T other than 1, against T = 1",
        },
        margins={"scaled_ece": margins.ECE, "scaled_error": margins.ERROR},
        subject="label smoothing",
        holds="is best at temperature 1",
        fails="is better at another temperature",
        below="better than at T = 1",
        figures=("decoding",),
        place="section 3, figure 4",
    ),
    Claim(
        "W10",
        PAPER,
        "The likelihood of the next token is better under cross entropy than under label smoothing at every "
        "temperature.",
        "Difference, after the last epoch, test sequences: negative log-likelihood of the next token, at the "
        "temperature where label smoothing does best against the baseline in the mean over seeds.",
        costs_likelihood,
        labels={"token_nll": "NLL of the next token, at the T where label smoothing does best"},
        margins={"token_nll": margins.NLL},
        subject="label smoothing",
        holds="has the worse likelihood at every temperature",
        fails="has the better likelihood at some temperature",
        below="likelier",
        figures=("decoding",),
        place="section 3, figure 4",
    ),
    Claim(
        "W11",
        PAPER,
        "The temperature of the least calibration error predicts the best temperature of beam search better than that "
        "of the least negative log-likelihood does.",
        "Difference, after the last epoch, test sequences, for each loss: |log T_ECE - log T_beam| - |log T_NLL - log "
        "T_beam|, with each seed's temperatures, of those of the probe, of the least ECE, NLL and token error rate, or "
        "of the highest BLEU; of equals the lower. The interval is at least one step of the probe's temperatures "
        "wide to either side: the largest beside those found, on the log scale.",
        predicts_the_temperature,
        labels={"temperature_distance": "distance from the best temperature, ECE against NLL"},
        margins={"temperature_distance": margins.TEMPERATURE},
        subject="the least calibration error",
        holds="predicts the best temperature of beam search better than the likelihood",
        fails="predicts the best temperature of beam search worse than the likelihood",
        below="ECE predicts better",
        figures=("decoding",),
        place="section 3, figure 4",
        paired=False,
    ),
    Claim(
        "W12",
        PAPER,
        "Label smoothing draws two similar classes into an arc about a third; without it they are round clusters.",
        "Arc ratio after the last epoch: in the plane of the templates of two similar classes and a third, about the "
        "mean of the third, the variance of the two along the direction of their means over that across; 1 for round "
        "clusters, less for arcs. Test samples that the classes were not chosen on: ratio of label smoothing's to the "
        "baseline's (the main measure); label smoothing's by itself, supported when the whole interval lies below "
        f"1/{ROUND:g}, contradicted when it lies above; and the baseline's by itself, supported when the whole "
        f"interval lies between 1/{ROUND:g} and {ROUND:g}, contradicted when it lies beyond; the factor is ours. And "
        "the ratio of the two on the training set. The similar classes are those of the largest mean probability of "
        "one on held-out samples of the other under cross entropy, averaged over seeds; the third exchanges least "
        "with both.",
        bends_similar_classes,
        labels={
            "arc_ratio_test": "arc ratio of two similar classes, against the baseline's, test set",
            "bent_test": "arc ratio of label smoothing by itself, test set",
            "round_test": "arc ratio of the baseline by itself, test set",
            "arc_ratio_train": "arc ratio of two similar classes, against the baseline's, training set",
        },
        margins=dict.fromkeys(("arc_ratio_test", "arc_ratio_train"), margins.VARIANCE),
        subject="label smoothing",
        holds="draws similar classes into an arc",
        fails="draws similar classes into no flatter arc than the baseline",
        below={"arc_ratio": "flatter", "bent": "an arc", "round": "flat"},
        place="figure 1, row 4",
        figures=("arcs",),
    ),
    Claim(
        "W13",
        PAPER,
        "Label smoothing raises the BLEU of beam search.",
        "Differences of BLEU (the main measure) and of chrF, after the last epoch, of the translations of the probe's "
        "test sentences at temperature 1, with intervals over seeds. The note has the p-value of each seed's "
        "difference over the choice of sentences, by sacrebleu's paired bootstrap of 1,000 draws. The paper has 25.3 "
        "and 25.8 from the literature.",
        translates_better,
        labels={"bleu_difference": "BLEU at T = 1", "chrf_difference": "chrF at T = 1"},
        margins=dict.fromkeys(("bleu_difference", "chrf_difference"), margins.TRANSLATION),
        subject="label smoothing",
        holds="raises the BLEU of beam search",
        fails="lowers the BLEU of beam search",
        below="worse translations",
        figures=("decoding",),
        place="section 3, beam search",
    ),
)
"""The paper's claims."""
