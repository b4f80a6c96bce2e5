"""Decoding: error of beam search against its width and its temperature, and calibration of the next token.

Muller et al., arXiv 1906.02629, section on beam search: a temperature T divides the logits, in the search and in the
probabilities whose calibration is measured given the correct earlier tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from nclens.data.parallel_text import detokenise
from nclens.data.tensors import Split
from nclens.metrics.calibration import calibration_at_temperatures
from nclens.metrics.transcription import error_rates
from nclens.metrics.translation import text_scores
from nclens.models import Network
from nclens.models.encoder_decoder import Transformer
from nclens.probes.beam_search import Search, beam_search
from nclens.training.loop import extract_features

BATCH = 250
"""Sources that are searched at once."""

#: Hypotheses, each a sequence of target tokens -> their scores by name.
Scorer = Callable[[list[Sequence[int]]], dict[str, float]]
#: Takes hypotheses and their references, as text.
Keep = Callable[[list[str], list[str]], None]


def decoding_scores(
    network: Network,
    test: Split,
    *,
    references: Sequence[str],
    manifest: Mapping[str, Any],
    samples: int,
    widths: Sequence[int],
    width: int,
    temperatures: Sequence[float],
    alpha: float,
    seed: int,
    keep: Keep | None = None,
) -> dict[str, float]:
    """Scores of what a network finds for sources of the test split, and its calibration on their target tokens.

    | key | what |
    |---|---|
    | `{score}_by_width/B` | score of the best hypothesis of a beam of width B, T = 1 |
    | `{score}_by_temperature/T` | of a beam of width `width` at temperature T |
    | `ece_by_temperature/T` | ECE, 15 bins, of the next token given the correct earlier ones, logits divided by T |
    | `nll_by_temperature/T` | mean negative log-likelihood of the next token, nats |

    The scores are `error` and `sequence_error`, the rates of `nclens.metrics.transcription.error_rates`; of text they
    are `bleu` and `chrf`, those of `nclens.metrics.translation.text_scores`. Hypotheses are ranked by the score of
    `nclens.probes.beam_search.Search`. T = 1 is always among the temperatures.

    Args:
        network: as `nclens.models.encoder_decoder.transformer` returns it; left in evaluation mode.
        test: the test split.
        references: a line for each of its sequences: its target as text, or what its target may be, tokens separated by
            blanks, alternatives by tabs.
        manifest: of the data: `classes`, the names of the K target tokens; of text its `tokenizers`.
        samples: sequences, a seeded choice; at most all.
        widths, width, temperatures, alpha: as above; `alpha` is the exponent of a hypothesis's length.
        seed: of the choice.
        keep: of text, called with the best hypotheses of a beam of width `width` at T = 1, and with their references.

    Raises:
        ValueError: a logit is not finite, or a reference has a token that is no class.
    """
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed % 2**63))
    chosen = order[:samples].sort().values
    split = test.subset(chosen.to(test.inputs.device))
    lines = [references[place] for place in chosen.tolist()]
    scored = _scorer(lines, manifest)
    scores: dict[str, float] = {}
    searched = [("width", f"{number}", Search(number, 1.0, alpha)) for number in sorted(set(widths))]
    searched += [("temperature", f"{t:g}", Search(width, t, alpha)) for t in with_one(temperatures)]
    found: dict[Search, dict[str, float]] = {}
    for of, number, search in searched:
        if search not in found:
            best = _best(network, split, search)
            found[search] = scored(best)
            if keep is not None and "tokenizers" in manifest and search == Search(width, 1.0, alpha):
                keep([detokenise(manifest, tokens) for tokens in best], lines)
        scores |= {f"{score}_by_{of}/{number}": value for score, value in found[search].items()}
    logits = extract_features(network, split)[1]
    tried = with_one(temperatures)
    found_at = calibration_at_temperatures(logits, split.of_samples(split.targets).cpu(), tried)
    for metric, values in found_at.items():
        scores |= {f"{metric}_by_temperature/{t:g}": value for t, value in zip(tried, values, strict=True)}
    return scores


def _scorer(references: Sequence[str], manifest: Mapping[str, Any]) -> Scorer:
    """Return what scores hypotheses, each a sequence of target tokens, in the references' order."""
    if "tokenizers" in manifest:
        return lambda found: text_scores([detokenise(manifest, tokens) for tokens in found], references)
    wanted = references_in_classes(references, manifest["classes"])

    def rates(found: list[Sequence[int]]) -> dict[str, float]:
        scores = error_rates(found, wanted)
        return {"error": scores["token_error_rate"], "sequence_error": scores["sequence_error_rate"]}

    return rates


def with_one(temperatures: Sequence[float]) -> list[float]:
    """Return the temperatures and 1, ascending, each once."""
    return sorted({1.0, *map(float, temperatures)})


def references_in_classes(references: Sequence[str], classes: Sequence[str]) -> list[list[list[int]]]:
    r"""Return the accepted sequences of target tokens of each line.

    Raises:
        ValueError: names the token that is no class.

    >>> references_in_classes(["B A\tB"], ["A", "B"])
    [[[1, 0], [1]]]
    """
    numbers = {name: number for number, name in enumerate(classes)}
    try:
        return [[[numbers[token] for token in one.split()] for one in line.split("\t")] for line in references]
    except KeyError as error:
        raise ValueError(f"a reference has the token {error}, which is none of the {len(classes)} classes") from None


def _best(network: Network, split: Split, search: Search) -> list[Sequence[int]]:
    """Return the best hypothesis of each source."""
    if not isinstance(network.backbone, Transformer):
        raise ValueError(f"decoding needs a Transformer, not {type(network.backbone).__name__}")
    sources = network.backbone.parts(split.inputs)[0]
    return [found[0].tokens for batch in sources.split(BATCH) for found in beam_search(network, batch, search)]
