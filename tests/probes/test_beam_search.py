import itertools
import math

import pytest
import torch

from nclens.models import Network
from nclens.models.encoder_decoder import PADDING, Vocabulary, transformer
from nclens.probes.beam_search import Search, beam_search

SIZES = Vocabulary(source=5, target=3, end=2, longest_source=4, longest_target=4)


def network_of(seed, sizes=SIZES, sharpness=3.0):
    torch.manual_seed(seed)
    network = transformer(sizes, sizes.target, width=8, heads=2).eval()
    with torch.no_grad():
        network.head.weight *= sharpness
    return network


def sources_of(count, sizes=SIZES):
    sources = torch.randint(0, sizes.source, (count, sizes.longest_source), generator=torch.Generator().manual_seed(1))
    sources[1::2, 2:] = PADDING
    return sources


@torch.no_grad()
def score_of(network, source, tokens, search):
    """The score of a sequence, without a cache."""
    sizes = network.backbone.vocabulary
    inputs = torch.tensor([sizes.begin, *tokens[:-1]])
    padded = torch.full((sizes.longest_target,), PADDING)
    padded[: len(inputs)] = inputs
    logits = network.head(network.backbone.decode(source[None], padded[None]))[0].double() / search.temperature
    total = sum(logits.log_softmax(1)[place, token].item() for place, token in enumerate(tokens))
    return total / len(tokens) ** search.alpha


def exhaustive(network, source, search):
    """All sequences that end, or have the longest length, with their scores, the best first."""
    sizes = network.backbone.vocabulary
    longest = search.longest or sizes.longest_target
    found = []
    for length in range(1, longest + 1):
        for tokens in itertools.product(range(sizes.target), repeat=length):
            ended = tokens[-1] == sizes.end
            if sizes.end not in tokens[:-1] and (ended or length == longest):
                found.append((score_of(network, source, tokens, search), tokens))
    return sorted(found, key=lambda item: (-item[0], item[1]))


def greedy(network, source, search):
    """The most probable token after the other, without a cache."""
    sizes, tokens = network.backbone.vocabulary, []
    while len(tokens) < sizes.longest_target and sizes.end not in tokens:
        options = [(-score_of(network, source, [*tokens, token], search), token) for token in range(sizes.target)]
        tokens.append(min(options)[1])
    return tuple(tokens)


def whole(hypothesis, sizes=SIZES):
    return (*hypothesis.tokens, *([sizes.end] if hypothesis.ended else []))


@pytest.mark.parametrize(("temperature", "alpha", "longest"), [(1, 1, None), (0.7, 0, None), (2, 0.6, 3)])
def test_a_beam_as_wide_as_the_number_of_hypotheses_finds_them_all_in_order(temperature, alpha, longest):
    search = Search(width=40, temperature=temperature, alpha=alpha, longest=longest)
    for seed in range(2):
        network, sources = network_of(seed), sources_of(3)
        for source, found in zip(sources, beam_search(network, sources, search), strict=True):
            expected = exhaustive(network, source, search)
            assert [whole(hypothesis) for hypothesis in found] == [tokens for _, tokens in expected]
            assert [hypothesis.score for hypothesis in found] == pytest.approx([score for score, _ in expected])


def test_width_one_is_greedy_search_at_every_temperature():
    sizes = Vocabulary(source=7, target=5, end=4, longest_source=6, longest_target=9)
    network, sources = network_of(3, sizes, sharpness=6.0), sources_of(8, sizes)
    with torch.no_grad():
        network.head.bias[sizes.end] += 3
    expected = [greedy(network, source, Search(width=1, alpha=0.0)) for source in sources]
    assert len({len(tokens) for tokens in expected}) > 1
    for temperature in (0.5, 1.0, 3.0):
        found = beam_search(network, sources, Search(width=1, temperature=temperature))
        assert [whole(hypothesis, sizes) for (hypothesis,) in found] == expected


def test_no_beam_scores_better_than_the_exhaustive_search_and_scores_are_those_of_the_sequences():
    for seed, width in itertools.product(range(4), (1, 2, 5)):
        network, sources, search = network_of(seed), sources_of(4), Search(width=width, alpha=0.8)
        for source, found in zip(sources, beam_search(network, sources, search), strict=True):
            assert len({whole(hypothesis) for hypothesis in found}) == len(found) <= width
            assert found[0].score <= exhaustive(network, source, search)[0][0] + 1e-6
            assert [hypothesis.score for hypothesis in found] == sorted((item.score for item in found), reverse=True)
            for hypothesis in found:
                assert hypothesis.score == pytest.approx(score_of(network, source, whole(hypothesis), search))


def test_the_temperature_changes_the_beam():
    sizes = Vocabulary(source=7, target=5, end=4, longest_source=6, longest_target=9)
    network, sources = network_of(5, sizes, sharpness=4.0), sources_of(30, sizes)
    best = [
        [whole(found[0], sizes) for found in beam_search(network, sources, Search(width=3, temperature=temperature))]
        for temperature in (0.5, 3.0)
    ]
    assert best[0] != best[1]


def test_a_source_is_decoded_alike_alone_and_in_a_batch():
    sizes = Vocabulary(source=7, target=5, end=4, longest_source=6, longest_target=9)
    network, sources = network_of(3, sizes, sharpness=6.0), sources_of(6, sizes)
    together = beam_search(network, sources, Search(width=3))
    for source, found in zip(sources, together, strict=True):
        (alone,) = beam_search(network, source[None], Search(width=3))
        assert [whole(item) for item in alone] == [whole(item) for item in found]
        assert [item.score for item in alone] == pytest.approx([item.score for item in found])
    assert beam_search(network, sources[:0], Search()) == []


def test_of_equal_scores_the_lower_tokens_are_taken():
    network = network_of(0)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.zero_()
    (found,) = beam_search(network, sources_of(1), Search(width=4, alpha=1.0))
    # Every token has log probability -log 3, and every hypothesis this mean.
    assert [whole(hypothesis) for hypothesis in found] == [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 2), (0, 0, 1, 0)]
    assert [hypothesis.ended for hypothesis in found] == [False, False, True, False]
    assert all(hypothesis.score == pytest.approx(-math.log(3)) for hypothesis in found)
    ((cut,),) = beam_search(network, sources_of(1), Search(width=1, longest=2))
    assert (cut.tokens, cut.ended) == ((0, 0), False)


def test_an_ended_hypothesis_keeps_its_place_until_a_better_one_takes_it():
    network = network_of(0)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.tensor([0.0, -9.0, 0.1]))
    # The end is likeliest at each step. With the plain sum a longer hypothesis never catches up, with the mean too.
    for alpha in (0.0, 1.0):
        (found,) = beam_search(network, sources_of(1), Search(width=2, alpha=alpha))
        assert whole(found[0]) == (2,)


def test_bad_settings_are_refused():
    for settings, message in [
        ({"width": 0}, "width = 0: must be 1 or more"),
        ({"temperature": 0.0}, "temperature = 0.0: must be positive and finite"),
        ({"temperature": math.nan}, "temperature = nan: must be positive and finite"),
        ({"alpha": -1.0}, "alpha = -1.0: must be 0 or more, and finite"),
        ({"longest": 0}, "longest = 0: must be 1 or more"),
    ]:
        with pytest.raises(ValueError, match=message):
            Search(**settings)
    with pytest.raises(TypeError, match="the backbone must be a Transformer, not Identity"):
        beam_search(Network(torch.nn.Identity(), 2, 2), sources_of(1), Search())
    network = network_of(0)
    with torch.no_grad():
        network.head.bias[0] = math.nan
    with pytest.raises(ValueError, match="logits are not all finite"):
        beam_search(network, sources_of(1), Search())
