"""The stage `ingest`: each library's own files, what is done to the inputs, and what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nclens.study import load_study
from nclens.workflow import specs, tables
from nclens.workflow.build.checkpoints import read_weights
from nclens.workflow.build.models import build_network
from nclens.workflow.epochs import load_weights, read_epoch
from nclens.workflow.files import FileError, read_json
from nclens.workflow.one_network import measure_network
from nclens.workflow.paths import RunFolder, path_of
from nclens.workflow.stages.extract import extract
from nclens.workflow.stages.ingest import ingest
from nclens.workflow.stages.measure import measure
from nclens.workflow.stages.prepare import prepare
from nclens.workflow.user_files import checkpoints_digest

pytestmark = pytest.mark.lengthy

#: Images that a threshold on one channel sorts, and networks that take them.
OWN = """
import numpy as np
import torch
from torch import nn


def images():
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    pixels = random.integers(0, 120, size=(90, 3, 8, 8), dtype=np.uint8)
    pixels[np.arange(90), labels] += 120
    return {"train_inputs": pixels[:60], "train_targets": labels[:60], "test_inputs": pixels[60:],
            "test_targets": labels[60:]}


class Net(nn.Module):
    def __init__(self, outputs, width=4):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Linear(width, outputs)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def net(shape, outputs, width=4):
    return Net(outputs, width)


def vit(shape, outputs):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
                       image_size=shape[1], patch_size=4, num_labels=outputs)
    return ViTForImageClassification(config)
"""
MADE = {}
exec(OWN, MADE)
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the user's file, the prepared data, for all tests."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "mine.py").write_text(OWN)
    study = load_study(raw(folder, {"ce": {0: "mine.py"}}), [folder])
    paths = specs.user_paths(study.datasets["images"])
    prepare(specs.prepare(study, "images"), folder / "data.safetensors", folder / "data.json", paths=paths)
    return folder


def raw(folder, runs, **keys):
    """A study of imported networks in the folder."""
    experiment = {"kind": "imported", "dataset": "images", "model": "net", "normalise": "data", "runs": runs} | keys
    return {
        "study": "s",
        "datasets": {"images": {"function": "mine:images"}},
        "models": {"net": {"function": "mine:net"}, "vit": {"function": "mine:vit"}},
        "experiments": {"e": {key: value for key, value in experiment.items() if value is not None}},
    }


class Ran:
    """An imported run after the stage."""

    def __init__(self, place, folder, runs, digest="", **keys):
        self.study = load_study(raw(place, runs, **keys), [place])
        (self.run, *_) = self.study.runs()
        self.spec, entry = specs.ingest(self.study, self.run), self.study.imported("e")
        self.files = entry.files(self.run.loss, self.run.seed)
        self.folder = RunFolder(folder / "results" / path_of(self.run))
        self.data = place / "data.safetensors", place / "data.json"
        ingest(self.spec, "code", *self.data, self.folder.folder, self.files, digest)

    def network(self, epoch=0):
        manifest = read_json(self.data[1], "prepare")
        network = build_network(specs.flat(self.spec.model), manifest["shape"], 3)
        load_weights(network, read_epoch(self.folder.snapshots, epoch, "ingest")[0], self.folder.snapshots)
        return network.eval()

    def features(self, epoch=0):
        extract(specs.extract(self.study, self.run), *self.data, self.folder.folder, 1)
        return read_epoch(self.folder.features, epoch, "extract")[0]


def network(seed, *arguments, name="Net"):
    torch.manual_seed(seed)
    return MADE[name](*arguments)


def images(place):
    return torch.from_numpy(MADE["images"]()["test_inputs"]).float() / 255


def normalised(pixels, mean, std):
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def lightning(net, file):
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.other = net, nn.Linear(2, 2)
            self.save_hyperparameters({"rate": 0.1})

        def training_step(self, batch):
            return self.model(batch[0]).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.0)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(4, 3, 8, 8)))
    options = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_steps=1, enable_checkpointing=False, **options)
    trainer.fit(Module(), loader)
    trainer.save_checkpoint(file)


#: A kind of file -> what makes it of a network, its name, and the keys that say what is in it.
KINDS = {
    "state_dict": (lambda net, file: torch.save(net.state_dict(), file), "x.pt", {}),
    "of DataParallel": (
        lambda net, file: torch.save({"state_dict": nn.DataParallel(net).state_dict(), "best": 0.5}, file),
        "x.th",
        {"prefix": "module."},
    ),
    "under a key": (
        lambda net, file: torch.save({"epoch": 3, "ema": {"model": net.state_dict()}}, file),
        "x.pth",
        {"key": "ema.model"},
    ),
    "safetensors": (lambda net, file: save_file(net.state_dict(), file), "x.safetensors", {}),
    "half precision": (
        lambda net, file: torch.save(
            {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}, file
        ),
        "h.pt",
        {},
    ),
    "Lightning": (lightning, "x.ckpt", {"prefix": "model."}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_each_librarys_file_gives_the_networks_own_outputs(place, tmp_path, kind):
    save, name, keys = KINDS[kind]
    net = network(0, 3).eval()
    save(net, tmp_path / name)
    net.eval()
    ran = Ran(place, tmp_path, {"ce": {0: str(tmp_path / name)}}, normalise={"mean": MEAN, "std": STD}, **keys)
    expected = net(normalised(images(place), MEAN, STD))
    torch.testing.assert_close(
        ran.features()["test.logits"], expected, rtol=1e-4, atol=2e-3 if kind[0] == "h" else 1e-5
    )


@pytest.mark.parametrize("sharded", [False, True])
def test_a_folder_of_hugging_face_gives_the_models_own_outputs(place, tmp_path, sharded):
    vit = network(0, (3, 8, 8), 3, name="vit").eval()
    vit.save_pretrained(tmp_path / "vit", max_shard_size="2KB" if sharded else "5GB")
    assert (len(list((tmp_path / "vit").glob("*.safetensors"))) > 1) is sharded
    ran = Ran(place, tmp_path, {"ce": {0: str(tmp_path / "vit")}}, model="vit", normalise="none")
    torch.testing.assert_close(ran.features()["test.logits"], vit(images(place)).logits, rtol=1e-4, atol=1e-5)


def test_a_folder_of_hugging_face_without_the_head_is_refused(place, tmp_path):
    from transformers import ViTModel

    ViTModel(network(0, (3, 8, 8), 3, name="vit").config).save_pretrained(tmp_path / "vit")
    with pytest.raises(FileError, match=r"vit is not of the model `vit`: missing: classifier.(weight|bias)"):
        Ran(place, tmp_path, {"ce": {0: str(tmp_path / "vit")}}, model="vit", normalise="none")


@pytest.mark.parametrize("normalise", ["data", "none", {"mean": MEAN, "std": STD}])
@pytest.mark.parametrize(("resize", "crop"), [(None, None), (12, None), ([10, 14], 9), (None, [6, 4])])
def test_the_network_takes_what_the_study_says(place, tmp_path, normalise, resize, crop):
    net = network(1, 3).eval()
    torch.save(net.state_dict(), tmp_path / "x.pt")
    keys = {"normalise": normalise, "resize": resize, "crop": crop}
    ran = Ran(place, tmp_path, {"ce": {0: str(tmp_path / "x.pt")}}, **keys)
    pixels, manifest = images(place), read_json(place / "data.json", "prepare")
    if resize is not None:
        size = (resize, resize) if isinstance(resize, int) else resize
        pixels = nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    if crop is not None:
        height, width = (crop, crop) if isinstance(crop, int) else crop
        top, left = (pixels.shape[2] - height) // 2, (pixels.shape[3] - width) // 2
        pixels = pixels[:, :, top : top + height, left : left + width]
    if normalise != "none":
        pixels = normalised(pixels, *((normalise if normalise != "data" else manifest)[key] for key in ("mean", "std")))
    given = normalised(images(place), manifest["mean"], manifest["std"])
    torch.testing.assert_close(ran.network()(given), net(pixels), rtol=1e-4, atol=1e-5)


def test_the_files_are_those_of_a_training(place, tmp_path, capsys):
    for epoch in (2, 7):
        torch.save(network(epoch, 3).state_dict(), tmp_path / f"e{epoch}.pt")
    ran = Ran(place, tmp_path, {"ce": {4: str(tmp_path / "e{epoch}.pt")}})
    printed = capsys.readouterr().err
    assert re.search(
        r"normalised by mean \[.*\] and std \[.*\] of the data set; epoch 7, test split: error \d", printed
    )
    record = read_json(ran.folder.run, "ingest")
    assert (record["seed"], record["dim"], record["checkpoints"]) == (4, 4, {"2": "e2.pt", "7": "e7.pt"})
    assert record["parameters"] == sum(value.numel() for value in network(0, 3).parameters())
    assert record["checkpoints_sha256"] == checkpoints_digest(ran.files)
    history = tables.read(tables.HISTORY["classification"], ran.folder.history)
    assert (len(history), list(history)[:2]) == (0, ["epoch", "split"])
    features = {epoch: ran.features(epoch) for epoch in (2, 7)}
    assert not torch.equal(features[2]["test.logits"], features[7]["test.logits"])
    measure(specs.measure(ran.study, ran.run), ran.folder.folder, 1)
    assert set(tables.read(tables.METRICS, ran.folder.metrics)["epoch"]) == {2, 7}


def recorded(folder, has_bias=True, **changes):
    """A file of features as a recorder writes them; changes are of arrays."""
    random = np.random.default_rng(0)
    arrays = {"weight": random.normal(size=(3, 5)), **({"bias": random.normal(size=3)} if has_bias else {})}
    for split, samples in (("train", 60), ("test", 30)):
        arrays[f"{split}_features"] = random.normal(size=(samples, 5)).astype(np.float32)
        arrays[f"{split}_labels"] = np.arange(samples) % 3
    arrays |= changes
    np.savez(folder / "epoch3.npz", **{key: value for key, value in arrays.items() if value is not None})
    return arrays


RECORDED = {"model": None, "normalise": None}


@pytest.mark.parametrize("bias", [True, False])
def test_recorded_features_are_measured_without_a_network(place, tmp_path, bias):
    arrays = recorded(tmp_path, bias)
    ran = Ran(place, tmp_path, {"ce": {0: str(tmp_path / "epoch{epoch}.npz")}}, **RECORDED)
    found = ran.features(3)
    expected = arrays["test_features"].astype(float) @ arrays["weight"].T + arrays.get("bias", 0)
    np.testing.assert_allclose(found["test.logits"], expected, rtol=1e-4, atol=1e-5)
    assert found["train.targets"].tolist() == arrays["train_labels"].tolist()
    assert found["bias"].tolist() == pytest.approx(arrays.get("bias", np.zeros(3)).tolist())
    measure(specs.measure(ran.study, ran.run), ran.folder.folder, 1)
    rows = tables.read(tables.METRICS, ran.folder.metrics).set_index(["split", "metric"])["value"]
    assert rows["test", "error"] == pytest.approx(float((expected.argmax(1) != arrays["test_labels"]).mean()))
    assert read_json(ran.folder.run, "ingest")["spec"]["model"] is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": np.ones((4, 5)), "bias": np.ones(4)}, "weight has 4 rows, and images has 3 classes"),
        ({"weight": np.ones((3, 6))}, r"expected train_features \(N, d\).* got \(60, 5\), \(60,\), \(3, 6\)"),
        ({"weight": None}, "epoch3.npz lacks weight; it must hold train_features"),
        ({"logits": np.ones(3)}, "also has logits; allowed: train_features"),
        ({"train_labels": np.arange(60) % 2}, "train_labels are not those of images: other counts"),
        ({"test_features": np.ones((9, 5)), "test_labels": np.arange(9) % 3}, "test_labels are 9 of 3 classes, and"),
        ({"test_labels": np.arange(30) % 3 + 0.5}, "test_labels of .* must be integer class labels"),
    ],
)
def test_other_features_than_the_data_sets_are_refused(place, tmp_path, changes, words):
    recorded(tmp_path, **changes)
    with pytest.raises(ValueError, match=words):
        Ran(place, tmp_path, {"ce": {0: str(tmp_path / "epoch3.npz")}}, **RECORDED)


class Anything:
    """What a pickle can hold and weights_only refuses."""


STATE = network(0, 3).state_dict()
BAD = {
    "a pickle": (
        {"state_dict": STATE, "args": Anything()},
        {},
        "cannot be read with weights_only.*save the weights alone",
    ),
    "a module": (nn.Linear(2, 2), {}, "cannot be read with weights_only"),
    "no weights": ({"net": STATE, "epoch": 3}, {}, "no weights at its top .* it has: net, epoch; `key` may be: net"),
    "another key": (
        {"net": STATE},
        {"key": "model"},
        "has no weights under key = model; it has: net; `key` may be: net",
    ),
    "another prefix": (STATE, {"prefix": "x."}, "no weight whose name begins with prefix = x.; it has: conv.weight"),
    "a list": ([1, 2], {}, "holds list; allowed: a mapping"),
    "a prefix": (
        {f"module.{name}": value for name, value in STATE.items()},
        {},
        r"missing: conv.weight.* and 3 more; not in the model: module.conv.weight.*; with prefix: module. it is",
    ),
    "another architecture": (
        {k: v for k, v in network(0, 3, 6).state_dict().items() if k != "norm.bias"} | {"extra": torch.ones(2)},
        {},
        r"is not of the model `net`: missing: norm.bias; not in the model: extra; of another shape: "
        r"conv.weight \(6, 3, 3, 3\), in the model \(4, 3, 3, 3\)",
    ),
    "other classes": (network(0, 7).state_dict(), {}, r"another shape: fc.weight \(7, 4\), in the model \(3, 4\)"),
    "an error": (
        STATE,
        {"expected_error": 0.99},
        r"the test error is 0\.\d+, and expected_error = 0.99; .* normalised by",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_checkpoint_that_does_not_fit_has_one_message_and_writes_nothing(place, tmp_path, mistake):
    content, keys, words = BAD[mistake]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises((FileError, ValueError), match=words):
        Ran(place, tmp_path, {"ce": {0: str(tmp_path / "x.pt")}}, **keys)
    assert not list(tmp_path.rglob("snapshots*"))


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors", "folder"])
def test_what_is_no_checkpoint_is_refused(place, tmp_path, name):
    (tmp_path / name).mkdir() if name == "folder" else (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(FileError, match=r"is no checkpoint|cannot be read|folder without weights"):
        read_weights(tmp_path / name)


def test_a_file_that_changed_since_the_plan_is_refused(place, tmp_path):
    torch.save(STATE, tmp_path / "x.pt")
    with pytest.raises(FileError, match="a file has changed since the workflow was planned"):
        Ran(place, tmp_path, {"ce": {0: str(tmp_path / "x.pt")}}, digest="0" * 64)


def test_an_epoch_that_came_since_the_plan_is_refused(place, tmp_path):
    torch.save(STATE, tmp_path / "e1.pt")
    ran = Ran(place, tmp_path, {"ce": {0: str(tmp_path / "e{epoch}.pt")}})
    with pytest.raises(FileError, match=r"the files are of the epochs \[1\], not \[1, 2\]"):
        ingest(replace(ran.spec, snapshots=(1, 2)), "code", *ran.data, ran.folder.folder, ran.files)


def test_a_digest_is_of_contents_alone(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (checkpoints_digest({1: tmp_path / name}) for name in "abc")
    assert a == b != c
    assert a != checkpoints_digest({2: tmp_path / "a"})


def test_measure_network_is_the_stages_of_a_study(place, tmp_path, capsys):
    torch.save(network(1, 3).state_dict(), tmp_path / "x.pt")
    ran = Ran(place, tmp_path, {"ce": {0: str(tmp_path / "x.pt")}})
    ran.features()
    measure(specs.measure(ran.study, ran.run), ran.folder.folder, 1)
    (place / "data.yaml").write_text("datasets: {images: {function: 'mine:images'}}")
    chosen = {"normalise": "data", "prefix": None}
    arguments = (str(tmp_path / "x.pt"), "mine:net", {"width": 4}, f"{place}/data.yaml#images", tmp_path, chosen, 1)
    values = measure_network(*arguments)
    rows = tables.read_rows(tables.METRICS, ran.folder.metrics)
    assert {(m, s): v for m, row in values.items() for s, v in row.items()} == pytest.approx(
        {(row["metric"], row["split"]): float(row["value"] or "nan") for row in rows}, nan_ok=True
    )
    assert "test split: error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("none.yaml#images", "there is no file none.yaml; allowed: FILE.yaml#NAME"),
        ("{place}/data.yaml#other", "has no data set `other`; it has: images"),
    ],
)
def test_measure_network_names_a_data_set_that_is_not_there(place, data, words):
    (place / "data.yaml").write_text("datasets: {images: {function: 'mine:images'}}")
    with pytest.raises(ValueError, match=words):
        measure_network("x.pt", "mine:net", {}, data.format(place=place), place, {"normalise": "data"}, 1)
