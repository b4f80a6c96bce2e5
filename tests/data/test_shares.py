"""Splits by shares of each class: sizes by hand, no overlap, no class lost."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nclens.data.shares import Wanted, draw, draw_unstratified, share_sizes, stratified

LABELS = torch.tensor([0] * 100 + [1] * 7 + [2] * 3 + [3] * 2)
NAMES = ["a", "b", "c", "d"]


def counts(labels, drawn):
    return {split: labels[index].bincount(minlength=4).tolist() for split, index in drawn.items()}


def test_every_class_gives_its_share_and_keeps_a_sample_in_every_split():
    drawn = stratified(LABELS, {"test": 0.2}, NAMES, 0, "x")
    assert counts(LABELS, drawn) == {"test": [20, 1, 1, 1], "train": [80, 6, 2, 1]}
    assert torch.cat(list(drawn.values())).sort().values.tolist() == list(range(len(LABELS)))
    assert all(torch.equal(index, index.sort().values) for index in drawn.values())
    again, other = (stratified(LABELS, {"test": 0.2}, NAMES, seed, "x")["test"] for seed in (0, 1))
    assert torch.equal(drawn["test"], again)
    assert not torch.equal(drawn["test"], other)


@given(st.integers(3, 2000), st.floats(0.001, 0.6), st.floats(0.001, 0.39))
def test_sizes_are_within_one_of_the_shares_where_there_are_enough_samples(count, test, val):
    sizes = share_sizes(count, [test, val])
    assert min(*sizes, count - sum(sizes)) >= 1
    # Training keeps two, which only a small class has to give up for.
    if count * (1 - test - val) >= 4:
        assert all(abs(size - share * count) <= 1 for size, share in zip(sizes, (test, val), strict=True))


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"test": 0.2}, "x: class e has 1 of the 2 samples that `test: 0.2` needs of every class, one for each split"),
        (
            {"test": 0.2, "val": 0.1},
            "x: class d has 2, class e has 1 of the 3 samples that `test: 0.2` and `validation: 0.1` needs",
        ),
    ],
)
def test_a_class_with_too_few_samples_is_named(shares, words):
    with pytest.raises(ValueError, match=words):
        stratified(torch.cat([LABELS, torch.tensor([4])]), shares, [*NAMES, "e"], 0, "x")


def test_shares_come_before_subsets_and_leave_a_given_split_whole():
    labels = torch.arange(30) % 3
    drawn = draw({"train": labels}, Wanted(4, 2, 0, 0.3, 0.1), NAMES[:3], "x")
    indices = torch.cat([index for _, index in drawn.values()])
    assert {of for of, _ in drawn.values()} == {"train"}
    assert [labels[drawn[split][1]].bincount().tolist() for split in ("train", "test", "val")] == [
        [4] * 3,
        [2] * 3,
        [1] * 3,
    ]
    assert len(indices.unique()) == len(indices)
    pools = {"train": labels, "test": labels[:6]}
    drawn = draw(pools, Wanted(validation=0.1), NAMES[:3], "x")
    assert {split: (of, len(index)) for split, (of, index) in drawn.items()} == {
        "train": ("train", 27),
        "test": ("test", 6),
        "val": ("train", 3),
    }
    with pytest.raises(ValueError, match=r"x has a split `test` already: leave out `test: 0\.2`"):
        draw(pools, Wanted(test=0.2), NAMES[:3], "x")
    with pytest.raises(
        ValueError, match="no separate test split: set `train_per_class` and `test_per_class`, or `test`"
    ):
        draw({"train": labels}, Wanted(train_per_class=2), NAMES[:3], "x")


def test_samples_without_classes_are_split_at_random():
    drawn = draw_unstratified({"train": torch.zeros(20, 1)}, Wanted(test=0.2, validation=0.1), "x")
    assert {split: len(index) for split, (_, index) in drawn.items()} == {"train": 14, "test": 4, "val": 2}
    assert torch.cat([index for _, index in drawn.values()]).sort().values.tolist() == list(range(20))
    with pytest.raises(ValueError, match=r"x: of 4 samples `test: 0\.2` leaves a split with 1; 2 are needed"):
        draw_unstratified({"train": torch.zeros(4, 1)}, Wanted(test=0.2), "x")
    with pytest.raises(ValueError, match="x has no separate test split: set `test`"):
        draw_unstratified({"train": torch.zeros(4, 1)}, Wanted(), "x")
