"""Images of a folder, and a table of their files and targets."""

import pytest
import torch
from PIL import Image

from nclens.data import image_table
from nclens.data.raw import RawData
from nclens.study import ConfigError, load_study
from nclens.workflow import specs
from nclens.workflow.stages.prepare import prepare

SPLITS = ["train"] * 6 + ["test"] * 3 + ["val"] * 3


@pytest.fixture
def folder(tmp_path):
    """Twelve grey images of 8 x 6 pixels, whose grey is ten times their number."""
    (tmp_path / "faces").mkdir()
    rows = ["file,age,height,part"]
    for number, split in enumerate(SPLITS):
        Image.new("L", (8, 6), 10 * number).save(tmp_path / "faces" / f"{number}.png")
        rows.append(f"{number}.png,{20 + number},{1.5 + number / 100},{split}")
    (tmp_path / "faces.csv").write_text("\n".join(rows))
    return tmp_path


def load(folder, **changes):
    keys = {
        "path": "faces",
        "table_path": "faces.csv",
        "image": "file",
        "targets": ["age", "height"],
        "split": "part",
        "image_size": None,
        "channels": 1,
        "scale_targets": "none",
        "split_seed": 0,
    }
    return image_table.load(RawData(folder), **keys | changes)


def edit(folder, old, new):
    table = folder / "faces.csv"
    table.write_text(table.read_text().replace(old, new))


def test_images_and_targets_are_those_of_their_rows(folder):
    made = load(folder)
    assert made.train_inputs.shape == (6, 1, 6, 8)
    assert made.train_inputs[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert made.val_inputs[:, 0, 0, 0].tolist() == [90, 100, 110]
    torch.testing.assert_close(made.test_targets, torch.tensor([[26, 1.56], [27, 1.57], [28, 1.58]]))
    assert made.targets == ["age", "height"]
    assert load(folder, targets=["age"], channels=3, image_size=4).train_inputs.shape == (6, 3, 4, 4)


def test_shares_make_the_splits(folder):
    made = load(folder, split=None, test=0.25, validation=0.25)
    assert [len(part) for part, _ in made.parts.values()] == [6, 3, 3]
    # The grey of an image says which row its targets must be.
    for inputs, targets in made.parts.values():
        assert (inputs[:, 0, 0, 0].float() / 10 + 20).tolist() == targets[:, 0].tolist()


@pytest.mark.parametrize(
    ("old", "new", "changes", "message"),
    [
        ("3.png", "nowhere.png", {}, "faces.csv: row 4: no file .*nowhere.png"),
        ("3.png", "2.png", {}, "faces.csv: rows 3 and 4 name the same file 2.png"),
        ("3.png", "", {}, "faces.csv: row 4 names no file"),
        (",23,", ",,", {}, "faces.csv: column age.*row 4"),
        (",23,", ",old,", {}, "faces.csv: column age.*row 4"),
        ("1.5,train", "1.5,dev", {}, "faces.csv: column part: row 1 has 'dev'; allowed: train, test, val"),
        ("train", "val", {}, "faces.csv: column part: no row is of the split train"),
        ("", "", {"targets": ["weight"]}, r"faces.csv has no column weight \(`targets`\); it has, .* file, age"),
        ("", "", {"image": "picture"}, r"has no column picture \(`image`\)"),
        ("", "", {"split": "set"}, r"has no column set \(`split`\)"),
        ("", "", {"path": "places"}, "image_table: no folder .*places"),
        ("", "", {"table_path": "none.csv"}, "no file .*none.csv"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(folder, old, new, changes, message):
    edit(folder, old, new) if old else None
    with pytest.raises(ValueError, match=message):
        load(folder, **changes)


def study(**changes):
    entry = {"source": "image_table", "path": "faces", "table_path": "faces.csv", "targets": ["age"], "test": 0.25}
    return {
        "study": "ages",
        "datasets": {"faces": entry | changes},
        "models": {"mlp": {"name": "mlp", "widths": [8]}},
        "losses": {"mse": {"name": "squared_error"}},
        "experiments": {
            "ages": {
                "dataset": "faces",
                "model": "mlp",
                "losses": ["mse"],
                "seeds": [0],
                "training": {
                    "epochs": 1,
                    "batch_size": 2,
                    "optimizer": {"name": "sgd", "learning_rate": 0.01, "weight_decay": 0.0},
                },
            }
        },
    }


def test_a_study_prepares_them_and_watches_folder_and_table(folder, tmp_path):
    loaded = load_study(study(scale_targets="each"))
    paths = specs.user_paths(loaded.datasets["faces"])
    assert paths == {"path": "faces", "table_path": "faces.csv"}
    spec = specs.prepare(loaded, "faces")
    assert "table_path" not in spec.arguments
    prepare(spec, tmp_path / "faces.safetensors", tmp_path / "faces.json", folder, paths)
    assert (tmp_path / "faces.json").is_file()
    assert loaded.task("ages") == "regression"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "part"}, "either `split`, a column that names it, or `test`"),
        ({"test": None}, "either `split`, a column that names it, or `test`"),
        ({"targets": ["file"]}, "the column file is named twice"),
    ],
)
def test_entries_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        load_study(study(**changes))
