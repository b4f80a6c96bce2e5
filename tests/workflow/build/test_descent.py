"""What the law of NC0 takes from a run's settings, and what fails of its premise."""

from dataclasses import replace

import numpy as np
import pytest

from nclens.training.loop import Settings
from nclens.ufm.nc0 import nc0_law
from nclens.workflow.build.descent import SHIFTED, broken_premise, law_of
from nclens.workflow.specs import Descent, Loss

DESCENT = Descent(
    batch_size=8, learning_rate=0.5, momentum=0.9, weight_decay=0.01, milestones=(2, 3), decay=0.1, lambda_w=0.0
)


def test_the_law_has_the_learning_rates_of_the_training():
    keys = ("batch_size", "learning_rate", "momentum", "weight_decay", "milestones", "decay")
    settings = Settings(epochs=5, **{key: getattr(DESCENT, key) for key in keys})
    rates = [settings.learning_rate_in(epoch) for epoch in range(1, 6) for _ in range(3)]
    law = law_of(DESCENT, 5, 3)
    np.testing.assert_allclose(law, nc0_law(rates, momentum=0.9, weight_decay=0.01), rtol=1e-14)
    assert len(law) == 16


def test_penalties_decay_as_weight_decay_does():
    penalised = law_of(replace(DESCENT, weight_decay=0.0, lambda_w=0.01), 5, 3)
    np.testing.assert_array_equal(penalised, law_of(DESCENT, 5, 3))


@pytest.fixture
def tested(tmp_path):
    def make(body):
        (tmp_path / "mine.py").write_text(f"import torch\n\ndef loss(logits, targets, scale):\n    {body}\n")
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
    assert tested("return (0 * logits).sqrt().sum(1)") == (
        "the gradients of the loss at random logits are not finite, so that they cannot be tested"
    )
