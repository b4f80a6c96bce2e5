"""Decoding: error of beam search against its width and its temperature, and calibration of the next token.

Muller et al., arXiv 1906.02629, section on beam search: a temperature T divides the logits, in the search and in the
probabilities whose calibration is measured given the correct earlier tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nclens.data.tensors import Split
from nclens.metrics.calibration import expected_calibration_error, negative_log_likelihood
from nclens.metrics.transcription import error_rates
from nclens.models import Network
from nclens.models.encoder_decoder import Transformer
from nclens.probes.beam_search import Search, beam_search
from nclens.training.loop import extract_features

BATCH = 250
"""Sources that are searched at once."""


def decoding_scores(
    network: Network,
    test: Split,
    *,
    references: Sequence[str],
    classes: Sequence[str],
    samples: int,
    widths: Sequence[int],
    width: int,
    temperatures: Sequence[float],
    alpha: float,
    seed: int,
) -> dict[str, float]:
    """Scores of what a network finds for sources of the test split, and its calibration on their target tokens.

    | key | what |
    |---|---|
    | `error_by_width/B`, `sequence_error_by_width/B` | error rates of the best hypothesis of a beam of width B, T = 1 |
    | `error_by_temperature/T`, `sequence_error_by_temperature/T` | of a beam of width `width` at temperature T |
    | `ece_by_temperature/T` | ECE, 15 bins, of the next token given the correct earlier ones, logits divided by T |
    | `nll_by_temperature/T` | mean negative log-likelihood of the next token, nats |

    The rates are those of `nclens.metrics.transcription.error_rates`; the score of a hypothesis is that of
    `nclens.probes.beam_search.Search`. T = 1 is always among the temperatures.

    Args:
        network: as `nclens.models.encoder_decoder.transformer` returns it; left in evaluation mode.
        test: the test split.
        references: a line for each of its sequences: what its target may be, tokens separated by blanks, alternatives
            by tabs.
        classes: names of the K target tokens.
        samples: sequences, a seeded choice; at most all.
        widths, width, temperatures, alpha: as above; `alpha` is the exponent of a hypothesis's length.
        seed: of the choice.

    Raises:
        ValueError: a logit is not finite, or a reference has a token that is no class.
    """
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed % 2**63))
    chosen = order[:samples].sort().values
    split = test.subset(chosen.to(test.inputs.device))
    wanted = references_in_classes([references[place] for place in chosen.tolist()], classes)
    scores: dict[str, float] = {}
    searched = [("width", f"{number}", Search(number, 1.0, alpha)) for number in sorted(set(widths))]
    searched += [("temperature", f"{t:g}", Search(width, t, alpha)) for t in with_one(temperatures)]
    found: dict[Search, dict[str, float]] = {}
    for of, number, search in searched:
        if search not in found:
            found[search] = error_rates(_best(network, split, search), wanted)
        scores[f"error_by_{of}/{number}"] = found[search]["token_error_rate"]
        scores[f"sequence_error_by_{of}/{number}"] = found[search]["sequence_error_rate"]
    logits = extract_features(network, split)[1].double()
    labels = split.of_samples(split.targets).cpu()
    for temperature in with_one(temperatures):
        scaled = logits / temperature
        scores[f"ece_by_temperature/{temperature:g}"] = expected_calibration_error(scaled.softmax(1), labels)
        scores[f"nll_by_temperature/{temperature:g}"] = negative_log_likelihood(scaled, labels)
    return scores


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
