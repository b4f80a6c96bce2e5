"""Hugging Face's own Trainer with the callback: its logger gets the values, which are those of the network."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import nclens
from nclens._torchvision import repair_on_import
from nclens.metrics.collapse import neural_collapse
from tests.callbacks.processes import run_two

pytestmark = [
    pytest.mark.lengthy,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def library():
    """Transformers, which takes seconds to import: not where its tests are only collected."""
    repair_on_import()
    return pytest.importorskip("transformers")


class Rows(Dataset):
    """Sequences of tokens, and a label a sequence or a token."""

    def __init__(self, samples=51, seed=0, tokens=False):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(samples) % 3
        self.ids = torch.randint(20, (samples, 6), generator=generator)
        self.ids[:, 1] = self.labels
        if tokens:
            self.labels = torch.where(self.ids > 12, -100, self.ids % 3)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"input_ids": self.ids[index], "labels": self.labels[index]}


def model(kind="SequenceClassification", seed=0):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = library().BertConfig(vocab_size=20, num_labels=3, max_position_embeddings=8, **sizes)
    return getattr(library(), f"BertFor{kind}")(config)


def make(folder, tokens=False, evaluated=None, **options):
    options = {"num_train_epochs": 2, "logging_strategy": "epoch", "eval_strategy": "epoch", "report_to": []} | options
    arguments = library().TrainingArguments(
        str(folder), use_cpu=True, per_device_train_batch_size=10, save_strategy="no", disable_tqdm=True, **options
    )
    return library().Trainer(
        model("TokenClassification" if tokens else "SequenceClassification"),
        arguments,
        train_dataset=Rows(tokens=tokens),
        eval_dataset=evaluated or Rows(seed=1, tokens=tokens),
    )


def train(trainer, **options):
    trainer.add_callback(nclens.HuggingFaceCallback(trainer, **options))
    trainer.train()
    return [row for row in trainer.state.log_history if "nc1" in row]


def measured(network, dataset, tokens=False):
    """The whole-set values, of the features that BERT's own parts give."""
    network.eval()
    with torch.no_grad():
        hidden = network.bert(dataset.ids)
    features = hidden.last_hidden_state.flatten(0, 1) if tokens else hidden.pooler_output
    head = network.classifier
    return neural_collapse(features, dataset.labels.flatten(), head.weight, head.bias, ignore_index=-100, min_samples=2)


@pytest.mark.parametrize("tokens", [False, True])
def test_the_trainers_log_gets_what_the_network_is(tmp_path, tokens):
    trainer = make(tmp_path, tokens)
    rows = train(trainer)
    assert [row["epoch"] for row in rows] == [1, 2]
    for prefix, seed in (("", 0), ("eval_", 1)):
        values = measured(trainer.model, Rows(seed=seed, tokens=tokens), tokens)
        assert {key: rows[-1][prefix + key] for key in values} == pytest.approx(values, rel=1e-3, abs=1e-6)
    # The trainer's own values are logged as ever.
    assert sum("loss" in row for row in trainer.state.log_history) == 2
    assert sum("eval_loss" in row for row in trainer.state.log_history) == 2


def test_the_training_is_the_same_with_and_without_it(tmp_path):
    watched = make(tmp_path)  # which seeds the generators
    train(watched)
    alone = make(tmp_path)
    alone.train()
    theirs = alone.model.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in watched.model.state_dict().items())


def test_mixed_precision_is_left_out_and_restored(tmp_path):
    trainer = make(tmp_path, bf16=True, num_train_epochs=1)
    rows = train(trainer)
    forward = vars(trainer.model).get("forward")
    assert forward is not None, "accelerate's, under which the trainer's next step runs"
    values = nclens.watch(trainer.model).measure(DataLoader(Rows(), 8))
    assert {key: rows[0][key] for key in values} == pytest.approx(values, rel=1e-3, abs=1e-6)
    assert vars(trainer.model)["forward"] == forward
    inputs = Rows().ids[:2]
    assert trainer.model(input_ids=inputs).logits.dtype == torch.float32
    plain = model()
    plain.load_state_dict(trainer.model.state_dict())
    assert values == pytest.approx(measured(plain, Rows()), rel=1e-3, abs=1e-6)


def test_several_evaluation_sets_and_epochs(tmp_path):
    trainer = make(tmp_path, evaluated={"a": Rows(seed=1), "b": Rows(seed=2)}, num_train_epochs=3)
    rows = train(trainer, head="classifier", every=2, nc4=False)
    assert [row["epoch"] for row in rows] == [2, 3]
    assert {"eval_a_nc1", "eval_b_nc1", "nc1"} <= rows[0].keys()
    assert "nc4" not in rows[0]
    with pytest.raises(ValueError, match="every: expected an integer of 1 or more, got 0"):
        nclens.HuggingFaceCallback(trainer, every=0)


@pytest.mark.slow
def test_mlflow_and_wandb_get_the_values(tmp_path, monkeypatch, wandb):
    import mlflow

    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    names = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path), "WANDB_PROJECT": "collapse"}
    for name, value in (names | {"MLFLOW_TRACKING_URI": address, "MLFLOW_EXPERIMENT_NAME": "collapse"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    # Another test of this process may have left a run and an address.
    # The trainer's logger chooses an experiment for the process, in which later tests record others.
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(address)
    trainer = make(tmp_path, report_to=["mlflow", "wandb"], num_train_epochs=1)
    rows = train(trainer)
    summary = dict(wandb.run.summary)
    wandb.finish()
    mlflow.end_run()
    mlflow.set_tracking_uri(None)
    client = mlflow.MlflowClient(address)
    (run,) = client.search_runs([client.get_experiment_by_name("collapse").experiment_id])
    for key in ("nc1", "nc3", "classes_measured"):
        assert run.data.metrics[key] == rows[0][key]
        assert run.data.metrics[f"eval_{key}"] == rows[0][f"eval_{key}"]
        assert summary[f"train/{key}"] == rows[0][key]
        assert summary[f"eval/{key}"] == rows[0][f"eval_{key}"]


PROCESS = """
import os, sys
rank, folder, port = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
os.environ["MASTER_PORT"] = port
import torch
from tests.callbacks.test_huggingface import make, train
trainer = make(folder, num_train_epochs=1, ddp_backend="gloo")
rows = train(trainer, min_samples=17)
torch.save((rows[0], trainer.model.state_dict()), f"{folder}/values{rank}.pt")
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_real_processes_are_one(tmp_path):
    """51 samples, 17 a class: where one is repeated as padding, a class has 18."""
    run_two(PROCESS, tmp_path)
    for rank in (0, 1):
        row, state = torch.load(tmp_path / f"values{rank}.pt")
        one = model()
        one.load_state_dict(state)
        for prefix, seed in (("", 0), ("eval_", 1)):
            values = measured(one, Rows(seed=seed))
            assert values["classes_measured"] == 3
            assert {key: row[prefix + key] for key in values} == pytest.approx(values, rel=1e-3, abs=1e-6)
