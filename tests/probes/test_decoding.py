import math

import pytest
import torch

from nclens.data.tensors import Split
from nclens.metrics.calibration import expected_calibration_error, negative_log_likelihood
from nclens.metrics.translation import text_scores
from nclens.models import Network, Vocabulary, transformer
from nclens.probes import decoding
from nclens.probes.beam_search import Search, beam_search

SIZES = Vocabulary(source=4, target=4, end=3, longest_source=3, longest_target=4)
CLASSES = ["A", "B", "C", "end"]


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    network = transformer(SIZES, 4, width=16, heads=2).eval()
    with torch.no_grad():
        network.head.weight *= 4
    random = torch.Generator().manual_seed(1)
    sources = torch.randint(4, (40, 3), generator=random)
    targets = torch.full((40, 4), -1)
    for row, length in enumerate(torch.randint(1, 4, (40,), generator=random).tolist()):
        targets[row, :length] = torch.randint(3, (length,), generator=random)
        targets[row, length] = 3
    inputs = torch.cat([sources, targets], 1).int()
    return network, Split.place(inputs, targets, [0.0], [1.0], "cpu", "sequences")


def references_of(split):
    return [" ".join(CLASSES[token] for token in row.tolist() if 0 <= token < 3) for row in split.targets]


def scores(trained, **changes):
    network, split = trained
    given = {"samples": 40, "widths": (1, 3), "width": 3, "temperatures": (0.5, 2.0), "alpha": 1.0, "seed": 0}
    given |= {"references": references_of(split), "manifest": {"classes": CLASSES}}
    return decoding.decoding_scores(network, split, **given | changes)


def test_keys_are_the_widths_and_temperatures(trained):
    found = scores(trained)
    by_width = {f"{name}_by_width/{width}" for name in ("error", "sequence_error") for width in (1, 3)}
    names = ("error", "sequence_error", "ece", "nll")
    assert found.keys() == by_width | {f"{name}_by_temperature/{t}" for name in names for t in ("0.5", "1", "2")}
    assert found["error_by_width/3"] == found["error_by_temperature/1"]


def test_calibration_is_that_of_the_logits_over_the_temperature(trained):
    network, split = trained
    found = scores(trained)
    with torch.no_grad():
        logits = network(split.inputs).double() / 2
    labels = split.targets[split.targets >= 0]
    assert found["nll_by_temperature/2"] == pytest.approx(negative_log_likelihood(logits, labels), rel=1e-6)
    assert found["ece_by_temperature/2"] == pytest.approx(
        expected_calibration_error(logits.softmax(1), labels), abs=1e-6
    )


def test_what_the_network_says_itself_has_no_error(trained):
    network, split = trained
    best = [one[0].tokens for one in beam_search(network, split.inputs[:, :3].long(), Search(3, 1.0, 1.0))]
    said = [" ".join(CLASSES[token] for token in tokens) for tokens in best]
    if all(said):
        assert scores(trained, references=said)["error_by_width/3"] == 0
    # An alternative is as good as the first.
    kept = [place for place, line in enumerate(said) if line]
    part = split.subset(torch.tensor(kept))
    lines = [f"C C C C C\t{said[place]}" for place in kept]
    found = scores((network, part), references=lines, samples=len(kept))
    assert found["error_by_width/3"] == found["sequence_error_by_width/3"] == 0


def test_translations_at_the_width_and_temperature_1_are_kept_with_their_references(trained, monkeypatch):
    pytest.importorskip("sacrebleu")
    monkeypatch.setattr(decoding, "detokenise", lambda manifest, tokens: " ".join(CLASSES[token] for token in tokens))
    kept = []
    text = {"manifest": {"classes": CLASSES, "tokenizers": {}}, "samples": 5}
    found = scores(trained, keep=lambda *texts: kept.append(texts), **text)
    ((hypotheses, references),) = kept
    assert found["bleu_by_temperature/1"] == found["bleu_by_width/3"] == text_scores(hypotheses, references)["bleu"]
    assert set(references) <= set(references_of(trained[1]))
    scores(trained, keep=lambda *texts: kept.append(texts))  # phones are no text
    assert len(kept) == 1


def test_the_seed_chooses_the_sequences(trained):
    assert scores(trained, samples=10) == scores(trained, samples=10)
    assert scores(trained, samples=10) != scores(trained, samples=10, seed=1)
    assert scores(trained, samples=1000) == scores(trained)


def test_wrong_input_is_refused(trained):
    with pytest.raises(ValueError, match="a reference has the token 'D', which is none of the 4 classes"):
        scores(trained, references=["D"] * 40)
    with pytest.raises(ValueError, match="decoding needs a Transformer, not Identity"):
        scores((Network(torch.nn.Identity(), 2, 2), trained[1]))
    assert decoding.with_one((2.0,)) == [1.0, 2.0]
    assert math.isfinite(scores(trained, widths=(1,))["error_by_width/1"])
