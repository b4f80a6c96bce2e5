import dataclasses

import pytest
import torch

from nclens.data.prepared import measured_split, place_split, references_of
from nclens.data.sequences import Sequences
from nclens.data.tasks import output_count, sample_count
from nclens.workflow.stages.prepare import describe

FIELDS = {"classes": ["a", "b", "end"], "source_tokens": ["x", "y"], "end": 2}
TRAIN = ([[0], [1, 1, 0], [0, 1]], [[0, 1, 1], [], [1]])
TEST = ([[1], [0]], [[0], [0]])


def data(**changes):
    return Sequences.from_lists({"train": TRAIN, "test": TEST}, **FIELDS | changes)


def test_lists_are_padded_and_each_target_ends():
    made = data()
    assert made.train_inputs.tolist() == [
        [0, -1, -1, 0, 1, 1, 2],
        [1, 1, 0, 2, -1, -1, -1],
        [0, 1, -1, 1, 2, -1, -1],
    ]
    assert made.train_targets.tolist() == [[0, 1, 1, 2], [2, -1, -1, -1], [1, 2, -1, -1]]
    assert made.test_inputs.tolist() == [[1, -1, -1, 0, 2, -1, -1], [0, -1, -1, 0, 2, -1, -1]]
    assert made.train_inputs.dtype == torch.int32
    assert made.train_targets.dtype == torch.int64


def test_the_manifest_counts_tokens():
    manifest = describe(data())
    assert manifest["task"] == "sequences"
    assert manifest["train"] == 3
    assert manifest["tokens"] == {"train": 7, "test": 4}
    assert manifest["train_counts"] == [1, 3, 3]
    assert manifest["vocabulary"] == {"source": 2, "target": 3, "end": 2, "longest_source": 3, "longest_target": 4}
    assert (manifest["shape"], manifest["mean"], manifest["std"]) == ([7], [0.0], [1.0])
    assert output_count(manifest) == 3
    assert sample_count(manifest) == 7


def test_whole_sequences_are_measured_until_there_are_enough_tokens():
    made = data(measured_tokens=6)
    chosen = made.tensors["train.measured"].tolist()
    assert 0 < sum(int((made.train_targets[one] >= 0).sum()) for one in chosen) <= 6
    assert chosen == data(measured_tokens=6).tensors["train.measured"].tolist()
    assert describe(data())["measured"]["train"] == [0, 1, 2]
    # One at least, however long.
    assert len(data(measured_tokens=1).tensors["train.measured"]) == 1


def test_classes_of_few_tokens_are_left_out_and_counted():
    manifest = describe(data())
    assert manifest["left_out"] == {"train": [0], "test": [1]}
    assert manifest["left_out_tokens"] == {"train": 1, "test": 0}
    message = r"train targets: of the 7 tokens that are measured, 0 classes have min_samples = 4 or more, and two are"
    with pytest.raises(ValueError, match=message):
        describe(data(min_samples=4))


def test_samples_of_a_split_are_its_target_tokens():
    made = data()
    manifest, device = describe(made), torch.device("cpu")
    split = place_split(dict(made.tensors), manifest, device, "train")
    assert len(split) == 3
    inputs, labels = split.take(torch.tensor([2, 0]))
    assert labels.tolist() == [1, 2, 0, 1, 1, 2]
    assert inputs.tolist() == made.train_inputs[[2, 0]].tolist()
    assert torch.equal(split.normalise(inputs), inputs)
    manifest["measured"]["train"] = [2]
    part = measured_split(dict(made.tensors), manifest, device, "train")
    assert part.of_samples(part.targets).tolist() == [1, 2]


def test_references_are_lines():
    made = data(references={"test": ["é\tb", "c"]})
    assert references_of(made.tensors, "test") == ["é\tb", "c"]
    assert references_of(made.tensors, "train") is None


@pytest.mark.parametrize(
    ("splits", "changes", "message"),
    [
        ({"train": ([[0], []], [[0], [1]])}, {}, "train sources: each sequence must have a token or more"),
        ({"train": ([[0], [2]], [[0], [1]])}, {}, r"train sources: tokens must be in 0\.\.1"),
        ({"test": ([], [])}, {}, "test sources: there must be at least one sequence"),
        ({"train": ([[0]], [[0, 2, 1]])}, {}, "train targets must each have the end, token 2, as their last token"),
        ({}, {"references": {"test": ["a"]}}, "test references: 1 lines for 2 sequences"),
    ],
)
def test_wrong_sequences_are_refused(splits, changes, message):
    with pytest.raises(ValueError, match=message):
        Sequences.from_lists({"train": TRAIN, "test": TEST} | splits, **FIELDS | changes)


def test_wrong_tensors_are_refused():
    made = data()
    fields = {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
    with pytest.raises(
        ValueError, match=r"train inputs must be int32 tokens \(N, S \+ T\) with S = 3, not torch.int64"
    ):
        Sequences(**fields | {"train_inputs": made.train_inputs.long()})
    with pytest.raises(ValueError, match=r"train targets must be int64 of shape \(3, T\)"):
        Sequences(**fields | {"train_targets": made.train_targets[:2]})
    other = made.train_targets.clone()
    other[0, 0] = 1
    with pytest.raises(ValueError, match="train targets must be the target tokens of the inputs"):
        Sequences(**fields | {"train_targets": other})
