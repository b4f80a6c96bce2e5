import os
import random
import sys

import pytest

pytest.importorskip("sacrebleu")

from nclens.metrics.translation import paired_bootstrap, signatures, text_scores

REFERENCES = ["the cat sat on the mat .", "there is a dog in the garden .", "he reads a book on the train ."]


def test_scores_are_those_of_their_definitions():
    assert text_scores(REFERENCES, REFERENCES) == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}
    # Four words of five: p = 4/4, 3/3, 2/2, 1/1, and b = exp(1 - 5/4).
    assert text_scores(["a b c d"], ["a b c d e"])["bleu"] == pytest.approx(100 * 2.718281828459045**-0.25)
    # Precision is 1 and recall 2/3 for letters, 1 and 1/2 for pairs; an n of which a text has no n-gram does not count.
    precision, recall = (1 + 1) / 2, (2 / 3 + 1 / 2) / 2
    expected = 100 * 5 * precision * recall / (4 * precision + recall)
    assert text_scores(["a b"], ["abc"])["chrf"] == pytest.approx(expected)
    assert text_scores([""], ["a b"]) == {"bleu": 0.0, "chrf": 0.0}


def test_signatures_have_settings_and_version():
    found = signatures()
    assert found["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert found["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_a_worse_system_differs_and_the_same_does_not(monkeypatch):
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    generator = random.Random(0)
    references = [" ".join(generator.choices("abcdefgh", k=8)) for _ in range(40)]
    worse = [line[:-4] + "x y" if number % 2 else line for number, line in enumerate(references)]
    found = paired_bootstrap(references, worse, references, samples=200)
    scores = text_scores(worse, references)
    for name in ("bleu", "chrf"):
        assert found[name]["difference"] == pytest.approx(scores[name] - 100)
        assert found[name]["p_value"] == pytest.approx(1 / 201)
    assert found == paired_bootstrap(references, worse, references, samples=200)
    assert os.environ["SACREBLEU_SEED"] == "7"
    same = paired_bootstrap(worse, worse, references, samples=50, seed=3)
    assert same == {name: {"difference": 0.0, "p_value": 1.0} for name in ("bleu", "chrf")}


def test_the_seed_is_that_of_the_draws():
    generator = random.Random(1)
    references = [" ".join(generator.choices("abcd", k=6)) for _ in range(12)]
    first, second = ([" ".join(generator.choices("abcd", k=6)) for _ in range(12)] for _ in range(2))
    values = [paired_bootstrap(first, second, references, 60, seed)["chrf"]["p_value"] for seed in (1, 1, 2, 3, 4, 5)]
    assert values[0] == values[1]
    assert len(set(values)) > 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: text_scores(["a"], ["a", "b"]), "1 hypotheses and 2 references: must be as many, 1 up"),
        (lambda: text_scores([], []), "0 hypotheses and 0 references"),
        (lambda: paired_bootstrap(["a"], ["a", "b"], ["a"]), "2 hypotheses and 1 references"),
        (lambda: text_scores("a b", "a b"), "must be lists of texts, got 'a b'"),
        (lambda: paired_bootstrap(["a"], [None], ["a"]), r"must be lists of texts, got '\[None\]'"),
        (lambda: paired_bootstrap(["a"], ["a"], ["a"], samples=0), "samples: expected an integer of 1 or more, got 0"),
        (lambda: paired_bootstrap(["a"], ["a"], ["a"], seed=0), "seed: expected an integer of 1 or more, got 0"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(
        ValueError, match=r"BLEU and chrF need the package sacrebleu: pip install 'nclens\[sequences\]'"
    ):
        text_scores(["a"], ["a"])
