"""Greedy and beam search of an encoder-decoder network, a batch of sources at a time, with cached keys and values."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nclens.models.encoder_decoder import Cache, Transformer
from nclens.models.network import Network


@dataclass(frozen=True)
class Search:
    """How hypotheses are searched and scored.

    score = sum_t log p_T(y_t | y_<t, x) / length^alpha, with p_T the softmax of the logits over the temperature T. The
    length counts the token that ends a hypothesis.

    Attributes:
        width: hypotheses that are kept after each token; 1 is greedy search.
        temperature: T > 0.
        alpha: exponent of the length; 0 for the plain log probability, 1 for the mean over tokens.
        longest: tokens after which a hypothesis is cut; by default, and at most, the longest target's.

    Raises:
        ValueError: a number is out of range.
    """

    width: int = 4
    temperature: float = 1.0
    alpha: float = 1.0
    longest: int | None = None

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width = {self.width}: must be 1 or more")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature = {self.temperature}: must be positive and finite")
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha = {self.alpha}: must be 0 or more, and finite")
        if self.longest is not None and self.longest < 1:
            raise ValueError(f"longest = {self.longest}: must be 1 or more")


@dataclass(frozen=True)
class Hypothesis:
    """A found sequence: its target tokens without the end, whether it has ended or was cut, and its score."""

    tokens: tuple[int, ...]
    ended: bool
    score: float


@dataclass
class Beams:
    """The hypotheses of B sources, `width` each, those of a source in lexicographic order of their tokens.

    Attributes:
        tokens: (B, width, T), those so far; behind an end, the end again.
        total: (B, width), sums of log probabilities in float64; -inf where there is no hypothesis.
        length: (B, width), with the end.
        ended: (B, width), also where there is no hypothesis.
    """

    tokens: Tensor
    total: Tensor
    length: Tensor
    ended: Tensor

    def take(self, rows: Tensor) -> "Beams":
        """Return those of some sources."""
        return Beams(self.tokens[rows], self.total[rows], self.length[rows], self.ended[rows])


@torch.no_grad()
def beam_search(network: Network, sources: Tensor, search: Search) -> list[list[Hypothesis]]:
    """Return the hypotheses found for each source, the best first, at most `search.width`.

    Each live hypothesis is continued by every token. Of these and of the ended ones, which keep their places, the
    `width` of the highest scores stay; of equal scores the lexicographically lower tokens. The search of a source ends
    when all its hypotheses have ended or were cut. At width 1 this is greedy search; where the width is at least the
    number of hypotheses, it is exhaustive. A wider beam need not find a higher score.

    Args:
        network: a Transformer, see `nclens.models.encoder_decoder`; it is left in evaluation mode.
        sources: (B, S), padded with -1.
        search: width, temperature, exponent of the length and longest hypothesis.

    Raises:
        TypeError: the network is no Transformer.
        ValueError: a logit is not finite.
    """
    backbone = network.eval().backbone
    if not isinstance(backbone, Transformer):
        raise TypeError(f"the backbone must be a Transformer, not {type(backbone).__name__}")
    limit = backbone.vocabulary.longest_target
    longest = limit if search.longest is None else min(search.longest, limit)
    count, width = len(sources), search.width
    if not count:
        return []
    cache = backbone.start(sources, width, longest)
    beams = _first(count, width, sources.device)
    found: list[list[Hypothesis]] = [[] for _ in range(count)]
    open_sources = torch.arange(count, device=sources.device)
    last = sources.new_full((count * width,), backbone.vocabulary.begin)
    for position in range(longest):
        logits = network.head(backbone.step(last, cache)).double() / search.temperature
        if not logits.isfinite().all():
            raise ValueError("the network's logits are not all finite: no hypothesis has a score")
        beams, parents = _continued(beams, logits.log_softmax(1).unflatten(0, (-1, width)), search, backbone)
        done = beams.ended.all(1) if position + 1 < longest else torch.ones_like(open_sources, dtype=torch.bool)
        if done.any():
            for source, hypotheses in zip(
                open_sources[done].tolist(), _hypotheses(beams.take(done), search, backbone.vocabulary.end), strict=True
            ):
                found[source] = hypotheses
            beams, parents, open_sources = beams.take(~done), parents[~done], open_sources[~done]
        if not len(open_sources):
            break
        _follow(cache, parents, done)
        last = beams.tokens[:, :, -1].flatten()
    return found


def _first(count: int, width: int, device: torch.device) -> Beams:
    """One empty hypothesis a source; the other places are free."""
    ended = torch.ones(count, width, dtype=torch.bool, device=device)
    ended[:, 0] = False
    total = torch.zeros(count, width, dtype=torch.float64, device=device).masked_fill_(ended, -math.inf)
    length = torch.zeros(count, width, dtype=torch.int64, device=device)
    return Beams(length.new_empty(count, width, 0), total, length, ended)


def _continued(beams: Beams, log_p: Tensor, search: Search, backbone: Transformer) -> tuple[Beams, Tensor]:
    """Return the beams one token later, and the place (B, width) of each one's parent; `log_p` is (B, width, K)."""
    end, width = backbone.vocabulary.end, search.width
    # An ended hypothesis has itself as its only continuation, at the place of the end.
    total = (beams.total[:, :, None] + log_p).masked_fill_(beams.ended[:, :, None], -math.inf)
    total[:, :, end] = torch.where(beams.ended, beams.total, total[:, :, end])
    length = beams.length + (~beams.ended).long()
    scores = (total / length.clamp_min(1)[:, :, None] ** search.alpha).flatten(1)
    chosen = _highest(scores, width)
    parents, tokens = chosen // log_p.shape[2], chosen % log_p.shape[2]
    ended = beams.ended.gather(1, parents) | (tokens == end)
    before = beams.tokens.gather(1, parents[:, :, None].expand(-1, -1, beams.tokens.shape[2]))
    after = Beams(
        tokens=torch.cat([before, tokens[:, :, None]], 2),
        total=total.flatten(1).gather(1, chosen),
        length=length.gather(1, parents),
        ended=ended,
    )
    after.ended |= after.total == -math.inf
    return after, parents


def _highest(scores: Tensor, count: int) -> Tensor:
    """Return the places (B, count) of the highest of the scores (B, n), in ascending order; of equals the first.

    Parents are in lexicographic order of their tokens, so the places of their continuations are too.
    """
    if scores.shape[1] > count:
        values, places = scores.topk(count + 1)
        if bool((values[:, -1] < values[:, -2]).all()):  # no equals to choose from
            return places[:, :-1].sort(1).values
    least = scores.topk(count).values[:, -1:]
    above, equal = scores > least, scores == least
    equal &= equal.cumsum(1) <= count - above.sum(1, keepdim=True)
    return (above | equal).nonzero()[:, 1].view(-1, count)


def _follow(cache: Cache, parents: Tensor, done: Tensor) -> None:
    """Let the cache's rows follow the hypotheses (B', width) of the sources that are not done."""
    kept = (~done).nonzero()
    rows = (kept * parents.shape[1] + parents).flatten()
    cache.follow(rows, kept[:, 0] if done.any() else None)


def _hypotheses(beams: Beams, search: Search, end: int) -> Iterator[list[Hypothesis]]:
    """Yield the hypotheses of each source, the best first."""
    scores = beams.total / beams.length.clamp_min(1) ** search.alpha
    order = scores.argsort(dim=1, descending=True, stable=True)
    for row, places in enumerate(order.tolist()):
        hypotheses = []
        for place in places:
            if (score := scores[row, place].item()) == -math.inf:
                continue
            tokens = beams.tokens[row, place, : beams.length[row, place]].tolist()
            ended = tokens[-1] == end
            hypotheses.append(Hypothesis(tuple(tokens[:-1] if ended else tokens), ended, score))
        yield hypotheses
