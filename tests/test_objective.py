"""From a loss entry to the function that is minimised."""

import inspect

import pytest
import torch
from torch.nn import functional

from nclens.config import json_schema
from nclens.losses import LOSSES
from nclens.objective import build_loss

LOGITS, TARGETS = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0])


def test_a_registered_loss_gets_its_parameters():
    loss = build_loss({"entry": "soft", "name": "ls", "smoothing": 0.2})
    expected = functional.cross_entropy(LOGITS, TARGETS, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(loss(LOGITS, TARGETS), expected)


@pytest.fixture
def own(tmp_path):
    def make(body):
        (tmp_path / "mine.py").write_text(f"def loss(logits, targets, scale):\n    {body}\n")
        entry = {"function": "mine:loss", "file": str(tmp_path / "mine.py"), "parameters": {"scale": 3.0}}
        return build_loss(entry)

    return make


def test_the_users_own_loss_may_return_one_value_a_sample_or_one_number(own):
    torch.testing.assert_close(own("return scale * logits[:, 0]")(LOGITS, TARGETS), torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(own("return scale * logits.sum()")(LOGITS, TARGETS), torch.tensor(9.0))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return logits", r"shape \(2,\), or one number, not \(2, 2\)"),
        ("return 1.0", "not float"),
        ("1 / 0", "failed: Zero"),
    ],
)
def test_the_users_mistakes_are_told_with_the_functions_name(own, body, words):
    with pytest.raises(ValueError, match=f"mine:loss .*{words}"):
        own(body)(LOGITS, TARGETS)


def test_the_configuration_knows_registered_losses_by_name_and_parameters():
    common = {"name", "label", "colour", "weight_decay"}
    for entry in json_schema()["$defs"].values():
        keys = entry.get("properties", {})
        if "label" not in keys or "name" not in keys:
            continue
        parameters = inspect.signature(LOSSES[keys["name"]["const"]]).parameters.values()
        assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == set(keys) - common
