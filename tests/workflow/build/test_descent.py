"""What the law of NC0 takes from a run's settings, and what fails of its premise."""

from dataclasses import replace

import numpy as np
import pytest

from nclens.ufm.nc0 import nc0_law
from nclens.workflow.build.descent import COSINE_HEAD, PENALTIES_CLIPPED, ROUNDED, SHIFTED, broken_premise, law_of
from nclens.workflow.specs import Descent, Loss, LrSchedule, Optimizer

SGD = Optimizer(0.5, 0.01, {"momentum": 0.9, "nesterov": False}, "sgd")
STEPS = LrSchedule("step", 1, {"milestones": [2, 3], "factor": 0.1})
DESCENT = Descent(
    batch_size=8, optimizer=SGD, lr_schedule=STEPS, clip_gradient_norm=None, precision="float32", lambda_w=0.0
)


def test_the_law_has_the_learning_rates_of_the_training():
    rates = [0.5 / 3, 1 / 3, 0.5] + [0.5] * 3 + [0.05] * 3 + [0.005] * 6
    law = law_of(DESCENT, 5, 3)
    np.testing.assert_allclose(law, nc0_law(rates, momentum=0.9, weight_decay=0.01), rtol=1e-14)
    assert len(law) == 16


def test_penalties_decay_as_weight_decay_does():
    penalised = law_of(replace(DESCENT, optimizer=replace(SGD, weight_decay=0.0), lambda_w=0.01), 5, 3)
    np.testing.assert_array_equal(penalised, law_of(DESCENT, 5, 3))


def test_decoupled_decay_and_nesterovs_momentum_have_their_laws():
    constant = replace(DESCENT, lr_schedule=LrSchedule("constant", 0, {}))
    decoupled = replace(constant, optimizer=replace(SGD, name="sgdw"))
    np.testing.assert_allclose(law_of(decoupled, 2, 3), (1 - 0.5 * 0.01) ** (2 * np.arange(7)), rtol=1e-14)
    nesterov = replace(constant, optimizer=replace(SGD, arguments={"momentum": 0.9, "nesterov": True}))
    expected = nc0_law([0.5] * 6, momentum=0.9, weight_decay=0.01, nesterov=True)
    np.testing.assert_array_equal(law_of(nesterov, 2, 3), expected)


@pytest.mark.parametrize("name", ["adam", "adamw", "muon", None])
def test_other_optimisers_break_the_premise_and_are_named(name):
    other = replace(SGD, name=name, arguments={}, function=None if name else "mine:lion")
    descent = replace(DESCENT, optimizer=other)
    assert (name or "mine:lion") in broken_premise(descent, 3)
    assert np.isfinite(law_of(descent, 2, 3)).all()


def test_clipping_breaks_the_premise_where_penalties_decay_the_classifier():
    clipped = replace(DESCENT, clip_gradient_norm=1.0)
    assert broken_premise(clipped, 3) == ""
    assert broken_premise(replace(clipped, lambda_w=0.01), 3) == PENALTIES_CLIPPED


def test_tensorfloat32_breaks_the_premise():
    assert broken_premise(replace(DESCENT, precision="tf32"), 3) == ROUNDED
    assert broken_premise(replace(DESCENT, precision="bf16"), 3) == ""  # the head stays in float32


def test_a_cosine_head_breaks_the_premise():
    assert broken_premise(replace(DESCENT, cosine_head=True), 3) == COSINE_HEAD


@pytest.fixture
def tested(tmp_path):
    def make(body, named="scale"):
        (tmp_path / "mine.py").write_text(f"import torch\n\ndef loss(logits, targets, {named}):\n    {body}\n")
        own = Loss("own", function="mine:loss", file=str(tmp_path / "mine.py"), arguments={"scale": 3.0})
        return broken_premise(replace(DESCENT, ignores_shift=None, tested=own), 3)

    return make


def test_a_loss_of_the_study_says_whether_its_premise_holds():
    assert broken_premise(DESCENT, 3) == ""
    assert broken_premise(replace(DESCENT, ignores_shift=False), 3) == SHIFTED


def test_the_users_own_loss_is_tested(tested):
    assert tested("return scale * torch.nn.functional.cross_entropy(logits, targets)") == ""
    assert tested("return scale * logits.square().sum(1)") == SHIFTED
    of_float32 = "(logits @ (torch.eye(3) - {}))[:, 0].square()"
    assert tested(f"return scale * {of_float32.format('1 / 3')}") == ""
    assert tested(f"return scale * {of_float32.format('1 / 4')}") == SHIFTED
    failing = tested("return scale * logits[:, 7]")
    assert failing.startswith("the gradients of the loss cannot be tested at random logits: mine:loss (")
    assert "IndexError" in failing
    normed = tested("return logits.sum(1)", "features, weight")
    assert normed == "the loss is of more than the logits: features, weight"
    assert tested("return (0 * logits).sqrt().sum(1)") == (
        "the gradients of the loss at random logits are not finite, so that they cannot be tested"
    )
