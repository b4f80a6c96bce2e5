"""Scores of translations, BLEU and chrF, as sacrebleu defines them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nclens._inputs import as_integer

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

#: sacrebleu's name of the environment variable that its paired tests are seeded by.
SEED = "SACREBLEU_SEED"


def text_scores(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return BLEU and chrF of a whole set of translations, both in 0..100; 100 is that of the references themselves.

    bleu = 100 b exp(sum_n log(p_n) / 4), n = 1, ..., 4, with p_n the share of the hypotheses' n-grams of words that
    their references have (each as often as there), exponentially smoothed where it is 0, and
    b = min(1, exp(1 - r/h)) for h words in all hypotheses and r in all references (Papineni et al., 2002).

    chrf = 100 (1 + 4) P R / (4 P + R), with P and R the precision and the recall of n-grams of characters, blanks
    aside, averaged over n = 1, ..., 6 (Popovic, 2015).

    Counts are summed over all sentences. `signatures` says how text is separated into words.

    Args:
        hypotheses: N translations, as text.
        references: a reference for each.

    Raises:
        ValueError: the package sacrebleu is not installed, these are no lists of texts, their numbers differ, or there
            are none.
    """
    _check(references, hypotheses)
    return {name: score.corpus_score(hypotheses, [references]).score for name, score in _scores().items()}


def signatures() -> dict[str, str]:
    """Return sacrebleu's signature of each score: its settings and the version, by which results are comparable.

    Raises:
        ValueError: the package sacrebleu is not installed.
    """
    found = _scores()
    for score in found.values():
        score.corpus_score(["a"], [["a"]])  # a signature has the number of references, which a score has then seen
    return {name: str(score.get_signature()) for name, score in found.items()}


def paired_bootstrap(
    baseline: Sequence[str],
    system: Sequence[str],
    references: Sequence[str],
    samples: int = 1000,
    seed: int = 12345,
) -> dict[str, dict[str, float]]:
    """Return how two systems' translations of the same sentences differ, by sacrebleu's paired bootstrap.

    Sentences are drawn with replacement, the same for both systems, as many as there are (Koehn, 2004). For each score
    of `text_scores`, `difference` is that of `system` less that of `baseline`, in -100..100, and `p_value`, in (0, 1],
    is (1 + n) / (1 + samples), with n the draws whose |difference| exceeds the mean of all draws' by more than
    |difference| of the sentences themselves; it is 1 where the two scores are equal.

    Args:
        baseline, system: N translations by the one and by the other system, as text.
        references: a reference for each.
        samples: number of draws.
        seed: of the draws; the default is sacrebleu's.

    Raises:
        ValueError: as `text_scores`, or `samples` or `seed` is no integer of 1 or more.
    """
    _check(references, baseline, system)
    for name, value in (("samples", samples), ("seed", seed)):
        as_integer(name, value, 1)  # sacrebleu takes a seed of 0 for none
    scores = _scores()
    from sacrebleu.significance import PairedTest

    with _seeded(seed):
        systems = [("baseline", baseline), ("system", system)]
        _, found = PairedTest(systems, scores, [references], test_type="bs", n_samples=samples)()
    # Results are by sacrebleu's own names, in the order of the metrics.
    pairs: list[Any] = [pair for name, pair in found.items() if name != "System"]
    results = {}
    for name, (first, second) in zip(scores, pairs, strict=True):
        difference = float(second.score - first.score)
        # No draw of a system against itself departs from the mean: sacrebleu's p-value would be the least possible.
        results[name] = {"difference": difference, "p_value": float(second.p_value) if difference else 1.0}
    return results


def _scores() -> "dict[str, Metric]":
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise ValueError("BLEU and chrF need the package sacrebleu: pip install 'nclens[sequences]'") from None
    return {"bleu": BLEU(), "chrf": CHRF()}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Set the seed of paired tests, which sacrebleu takes from the environment alone."""
    before = os.environ.get(SEED)
    os.environ[SEED] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ[SEED]
        else:
            os.environ[SEED] = before


def _check(references: Sequence[str], *systems: Sequence[str]) -> None:
    for texts in (references, *systems):
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"hypotheses and references must be lists of texts, got {str(texts)[:80]!r}")
    for hypotheses in systems:
        if len(hypotheses) != len(references) or not hypotheses:
            raise ValueError(f"{len(hypotheses)} hypotheses and {len(references)} references: must be as many, 1 up")
