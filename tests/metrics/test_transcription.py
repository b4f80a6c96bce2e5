import itertools
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.metrics.transcription import error_rates

TOKENS = st.lists(st.integers(0, 3), max_size=6)


def distance(left, right):
    """The edit distance by its definition."""

    @cache
    def of(i, j):
        if i == 0 or j == 0:
            return i + j
        return min(of(i - 1, j) + 1, of(i, j - 1) + 1, of(i - 1, j - 1) + (left[i - 1] != right[j - 1]))

    return of(len(left), len(right))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TOKENS, st.lists(TOKENS.filter(len), min_size=1, max_size=3)), min_size=1, max_size=4))
def test_rates_are_those_of_the_definition(cases):
    edits = length = wrong = 0
    for hypothesis, references in cases:
        least = min(distance(hypothesis, reference) for reference in references)
        nearest = [reference for reference in references if distance(hypothesis, reference) == least]
        edits, length = edits + least, length + max(map(len, nearest))
        wrong += hypothesis not in references
    found = error_rates([hypothesis for hypothesis, _ in cases], [references for _, references in cases])
    assert found["token_error_rate"] == pytest.approx(edits / length)
    assert found["sequence_error_rate"] == pytest.approx(wrong / len(cases))


def test_numbers_by_hand():
    assert error_rates([(1, 2, 3)], [[(1, 2, 3)]]) == {"token_error_rate": 0.0, "sequence_error_rate": 0.0}
    # One substitution of 3 tokens and two insertions to none: 3 edits of 4 tokens.
    assert error_rates([(1, 9, 3), (7, 5, 7)], [[(1, 2, 3)], [(5,)]]) == {
        "token_error_rate": 3 / 4,
        "sequence_error_rate": 1.0,
    }
    # Both references are one edit away: the longer counts.
    assert error_rates([(1, 2)], [[(1,), (1, 2, 3)]])["token_error_rate"] == 1 / 3
    assert error_rates([()], [[(1, 2)]])["token_error_rate"] == 1.0
    # Large vocabularies have a character for each token.
    assert error_rates([(50_000, 2)], [[(50_001, 2)]])["token_error_rate"] == 1 / 2


def test_the_order_of_references_does_not_matter():
    references = [(1, 2), (2, 3, 4), (3,)]
    rates = [error_rates([(2, 3)], [list(order)]) for order in itertools.permutations(references)]
    assert all(rate == rates[0] for rate in rates)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="1 hypotheses and 2 lists of references"):
        error_rates([(1,)], [[(1,)], [(2,)]])
    with pytest.raises(ValueError, match="0 hypotheses and 0 lists of references"):
        error_rates([], [])
    with pytest.raises(ValueError, match="hypothesis 1: must have references, each of 1 token or more"):
        error_rates([(1,), (2,)], [[(1,)], []])
    with pytest.raises(ValueError, match="hypothesis 0: must have references, each of 1 token or more"):
        error_rates([(1,)], [[()]])
