"""What would only fail again is remembered; what may go better the next time is not."""

import pytest
import torch

from nclens.data.tensors import Split
from nclens.models import MODELS, Network
from nclens.models.head import split_at_head
from nclens.models.network import UnfitError
from nclens.training.loop import NonFiniteError, Trainer
from nclens.training.loss import TrainedLoss
from nclens.workflow.build.data import load_dataset
from nclens.workflow.build.models import build_network
from nclens.workflow.failures import RECORD, explained, forget_failures, remembered
from tests.training.descents import sgd_settings


def fail(run, error, identity="a", cause=None):
    with remembered(run, identity):
        raise error from cause


@pytest.mark.parametrize("kind", [UnfitError, NonFiniteError])
def test_it_fails_at_once_with_the_same_message_until_something_changes(tmp_path, kind):
    with pytest.raises(kind, match=r"^wrong$"):
        fail(tmp_path, kind("wrong"))
    ran = []
    with pytest.raises(kind, match=rf"^wrong\n.*nclens retry {tmp_path}"), remembered(tmp_path, "a"):
        ran.append(1)
    assert not ran
    with remembered(tmp_path, "b"):
        ran.append(1)
    assert ran
    assert not (tmp_path / RECORD).exists()


@pytest.mark.parametrize(
    "error",
    [OSError("disk full"), MemoryError("no memory"), RuntimeError("CUDA"), SystemExit(143), KeyboardInterrupt()],
)
def test_what_the_machine_did_is_not_remembered(tmp_path, error):
    with pytest.raises(type(error)):
        fail(tmp_path, error)
    assert not (tmp_path / RECORD).exists()


@pytest.mark.parametrize(
    "cause",
    [
        FileNotFoundError("weights.bin"),
        ImportError("timm"),
        RuntimeError("CUDA out of memory."),
        RuntimeError("shapes"),
        KeyError("HOME"),
        None,
    ],
)
def test_nor_is_another_error_whatever_its_cause(tmp_path, cause):
    for error in (ValueError("mine:net failed"), FloatingPointError("underflow")):
        with pytest.raises(type(error), match=str(error)):
            fail(tmp_path, error, cause=cause)
        assert not (tmp_path / RECORD).exists()


FILE = """
import os

{head}


def net(*arguments):
    {body}
"""


@pytest.mark.parametrize(
    ("head", "body", "words"),
    [
        ("TOKEN = os.environ['NCLENS_NO_SUCH_VARIABLE']", "pass", "cannot be imported: KeyError"),
        ("import nclens_no_such_package", "pass", "cannot be imported: ModuleNotFoundError"),
        ("raise RuntimeError('the driver is too old')", "pass", "cannot be imported: RuntimeError"),
        ("raise ValueError('bad licence server')", "pass", "cannot be imported: ValueError"),
        ("", "raise ValueError('the server is down')", "failed: ValueError: the server is down"),
    ],
)
def test_the_users_file_is_tried_again_whatever_it_raises(tmp_path, head, body, words):
    (tmp_path / "mine.py").write_text(FILE.format(head=head, body=body))
    entry = {"function": "mine:net", "file": str(tmp_path / "mine.py"), "parameters": {}}
    for build in (lambda: build_network(entry, (4,), 2), lambda: load_dataset(entry)):
        with pytest.raises(ValueError, match=words), remembered(tmp_path, "a"):
            build()
        assert not (tmp_path / RECORD).exists()


def trainer(shape=(4,), samples=6, **settings):
    """A trainer of a linear network on so many samples."""
    inputs = torch.ones(samples, *shape)
    split = Split.place(inputs, torch.arange(samples) % 2, [0.0] * shape[0], [1.0] * shape[0], torch.device("cpu"))
    network = Network(torch.nn.Flatten(), inputs[0].numel(), 2)
    chosen = {"epochs": 1, "batch_size": 2, "learning_rate": 0.1} | settings
    return Trainer(network, TrainedLoss(lambda logits, targets: logits.sum(1)), split, split, sgd_settings(**chosen), 0)


@pytest.mark.parametrize(
    ("words", "misfit"),
    [
        ("needs images", lambda: MODELS["resnet8"]((5,), 3)),
        (
            "images with 3 channels, not 1",
            lambda: MODELS["torchvision"]((1, 32, 32), 3, builder="alexnet", parameters={}),
        ),
        ("with 7 rows; the data need 10", lambda: split_at_head(torch.nn.Linear(4, 7), (4,), 10, "mine:net")),
        ("batch_size 7 is larger than the training split", lambda: trainer(batch_size=7)),
        ("flip_crop needs images", lambda: trainer(augmentation="flip_crop")),
    ],
)
def test_data_and_model_that_do_not_fit_are_remembered(tmp_path, words, misfit):
    with pytest.raises(UnfitError, match=words), remembered(tmp_path, "a"):
        misfit()
    with pytest.raises(UnfitError, match="not tried again"), remembered(tmp_path, "a"):
        pass


def test_a_loss_that_is_not_finite_is_remembered(tmp_path):
    with pytest.raises(NonFiniteError, match="not finite in epoch 1"), remembered(tmp_path, "a"):
        trainer(learning_rate=1e38).advance()
    with pytest.raises(NonFiniteError, match="not tried again"), remembered(tmp_path, "a"):
        pass


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"identity": "a", "kind": "exit", "message": ""}',
        '{"identity": "a", "kind": "ValueError", "message": ""}',
    ],
)
def test_a_damaged_record_is_as_good_as_none(tmp_path, content):
    (tmp_path / RECORD).write_text(content)
    with remembered(tmp_path, "a"):
        pass
    assert not (tmp_path / RECORD).exists()


def test_records_of_one_run_or_of_all_are_forgotten(tmp_path):
    runs = [tmp_path / "ce" / "seed0", tmp_path / "ls" / "seed0"]
    for run in runs:
        with pytest.raises(UnfitError, match="wrong"):
            fail(run, UnfitError("wrong"))
    assert forget_failures(runs[0]) == [runs[0] / RECORD]
    assert forget_failures(tmp_path) == [runs[1] / RECORD]


def test_an_operation_without_a_deterministic_implementation_is_named():
    words = r"^training\.deterministic is true, but kthvalue CUDA has no deterministic implementation; set it to false"
    with pytest.raises(ValueError, match=words), explained():
        raise RuntimeError("kthvalue CUDA does not have a deterministic implementation, but you set\n...")


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match=r"^shapes do not match$"), explained():
        raise RuntimeError("shapes do not match")


@pytest.mark.cuda
def test_an_operation_without_a_deterministic_implementation_is_named_on_cuda(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(ValueError, match="deterministic is true, but"), explained():
            torch.rand(4, 4, 4, device="cuda").kthvalue(2)
    finally:
        torch.use_deterministic_algorithms(False)
