"""Films of runs, read without PyTorch, put side by side, and written for slides."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from nclens.metrics.film import Film
from nclens.workflow import film as films
from nclens.workflow import tables
from nclens.workflow.files import FileError, read_tensors, write_tensors
from nclens.workflow.film import film_of, read_film, write_film
from nclens.workflow.paths import StudyFolder

LOSSES = ("ce", "ls")
ENTRY = {"dataset": "data", "model": "net", "losses": list(LOSSES), "seeds": [3, 1]}
LOOKS = {"label": {"ce": "CE", "ls": "LS"}, "colour": {"ce": "#0072B2", "ls": "#D55E00"}}
EXPERIMENT = {**ENTRY, "experiment": "e", "labels": LOOKS["label"], "colours": LOOKS["colour"]}


def tensors_of(seed, epochs=(1, 4), classes=4):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(40) % classes
    made = None
    for epoch in reversed(epochs):
        last = {"train.features": torch.randn(40, 6, generator=generator), "train.targets": labels}
        last["weight"] = torch.randn(classes, 6, generator=generator)
        made = made or Film.of_classifier(last, [0, 1, 2])
        made.add(epoch, last)
    return made.tensors() | {"epochs": torch.tensor(epochs, dtype=torch.int32)}


@pytest.fixture
def folder(tmp_path):
    """A study's folder with the films of two losses, seed 1, its table, its manifest and its settings."""
    found, rows = StudyFolder(tmp_path), []
    for place, loss in enumerate(LOSSES):
        write_tensors(found.run(f"data/net/{loss}/seed1").film, tensors_of(place))
        keys = {"experiment": "e", "dataset": "data", "model": "net", "loss": loss, "split": "train"}
        rows += [keys | {"seed": 1, "epoch": e, "metric": "nc1", "value": 1 / (e + place)} for e in (1, 4)]
        rows += [keys | {"seed": 3, "epoch": 4, "metric": "nc1", "value": 9.0}]
    tables.write(tables.COLLECTED, found.metrics, pd.DataFrame(rows))
    found.manifest("data").parent.mkdir(exist_ok=True)
    found.manifest("data").write_text(json.dumps({"classes": ["zero", "one", "two", "three"]}))
    losses = {loss: {key: LOOKS[key][loss] for key in LOOKS} for loss in LOSSES}
    found.resolved.write_text(yaml.safe_dump({"experiments": {"e": ENTRY}, "losses": losses}))
    return found


def test_the_films_of_the_smallest_seed_are_side_by_side(folder):
    made = film_of(folder, EXPERIMENT, tables.read(tables.COLLECTED, folder.metrics))
    assert (made.seed, made.epochs, made.classes, made.measure) == (1, [1, 4], 4, "NC1")
    assert [panel.label for panel in made.panels] == ["CE", "LS"]
    assert [panel.curve.tolist() for panel in made.panels] == [[1, 1 / 4], [1 / 2, 1 / 5]]
    written, _ = read_tensors(folder.run("data/net/ls/seed1").film, "measure")
    own = made.panels[1].planes["templates"]
    shown = written["labels"] < 3
    assert own.points.tolist() == written["templates.points"][:, shown].tolist()
    assert own.kinds.tolist() == written["labels"][shown].tolist()
    assert made.planes == ["templates", "principal"]
    assert made.kinds_in("principal") == [0, 1, 2, 3]


def test_what_has_no_film_is_left_out(folder):
    metrics = tables.read(tables.COLLECTED, folder.metrics)
    folder.run("data/net/ce/seed1").film.unlink()
    made = film_of(folder, EXPERIMENT, metrics)
    assert (len(made.panels), made.left_out) == (1, ["CE"])
    write_tensors(folder.run("data/net/ls/seed1").film, tensors_of(0, epochs=(4,)))
    assert film_of(folder, EXPERIMENT, metrics) is None  # of one snapshot there is nothing to play
    folder.run("data/net/ls/seed1").film.unlink()
    assert film_of(folder, EXPERIMENT, metrics) is None


def test_of_many_losses_some_are_shown_evenly_spaced():
    names = [f"loss{k}" for k in range(30)]
    shown = films._evenly(names, 12)
    assert (len(set(shown)), shown[0], shown[-1]) == (12, "loss0", "loss29")
    assert films._evenly(names[:12], 12) == names[:12]


def test_a_regressors_colours_are_ten_values_of_the_middle_of_its_target():
    values, scale = torch.arange(-100, 101, dtype=torch.int16), torch.tensor(0.5, dtype=torch.float64)
    kinds, places = films._of_values({"values": values.numpy(), "values.scale": scale.numpy()})
    assert (kinds[0], kinds[-1]) == pytest.approx((-47.5, 47.5))
    nearest = np.abs(np.array(kinds)[:, None] - values.numpy() / 2).argmin(axis=0)
    assert (places == nearest).mean() > 0.95


def test_a_damaged_film_is_named(folder):
    path = folder.run("data/net/ce/seed1").film
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"film\.safetensors is damaged \(its content .* checksum\).*rule `measure`"):
        read_film(path)
    path.write_bytes(content[:100])
    with pytest.raises(FileError, match="is damaged"):
        read_film(path)


@pytest.mark.lengthy
def test_a_film_is_written_as_a_gif(folder, tmp_path):
    made = write_film(folder.root, tmp_path / "slides" / "collapse.gif")
    assert (made.experiment, made.seed) == ("e", 1)
    assert (tmp_path / "slides" / "collapse.gif").read_bytes()[:6] == b"GIF89a"
    assert [path.name for path in (tmp_path / "slides").iterdir()] == ["collapse.gif"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"to": "c.avi"}, r"--to .*c\.avi: allowed: a file that ends with \.gif or \.mp4"),
        ({"to": "c.mp4"}, r"--to .*c\.mp4: an \.mp4 needs ffmpeg, which is not on the PATH: install it, or write a"),
        ({"experiment": "other"}, "--experiment other: allowed: e"),
        ({"seed": 2}, "--seed 2: allowed: 3, 1"),
        ({"seed": 3}, "no film; it needs a run with two snapshots"),
        ({"plane": "upper"}, "--plane upper: allowed: templates, principal"),
        ({"root": "elsewhere"}, r"study\.yaml is missing: .*elsewhere is no study's folder, such as results/digits"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_message(folder, tmp_path, monkeypatch, given, words):
    monkeypatch.setattr("shutil.which", lambda name: None)
    root, to = folder.root / given.pop("root", ""), tmp_path / given.pop("to", "c.gif")
    with pytest.raises((ValueError, FileError), match=words):
        write_film(root, to, **given)
    assert not to.exists()
