"""What goes with sequences in a study, and what does not."""

import re

import pytest

from nclens.study import ConfigError, load_study

TRAINING = {"epochs": 1, "batch_size": 8, "optimizer": {"name": "adamw", "learning_rate": 0.001, "weight_decay": 0.0}}


def study(**changes):
    spelling = {"dataset": "words", "model": "small", "losses": ["ce"], "seeds": [0], "training": TRAINING}
    content = {
        "study": "spelling",
        "datasets": {"words": {"source": "cmudict", "train_words": 100}, "digits": {"source": "mnist5k"}},
        "models": {"small": {"name": "transformer", "width": 8}, "images": {"name": "resnet8"}},
        "losses": {"ce": {"name": "ce"}},
        "probes": {"beam": {"kind": "decoding"}, "sharp": {"kind": "sharpness"}},
        "experiments": {"spelling": spelling | changes},
    }
    return content


def test_tokens_are_classified():
    loaded = load_study(study(probes=["beam"]))
    assert loaded.task("spelling") == "classification"
    assert loaded.data_task("spelling") == "sequences"
    assert "decoding" in loaded.figures("spelling")
    assert loaded.dim("spelling") == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "images"},
            "experiments.spelling.model = images: words has sequences, for a `transformer`; allowed: small",
        ),
        (
            {"dataset": "digits"},
            "experiments.spelling.model = small: digits has no sequences, which a transformer needs; allowed: images",
        ),
        ({"probes": ["sharp"]}, "experiments.spelling.probes = sharp: do not go with sequences, the task of words"),
        (
            {"dataset": "digits", "model": "images", "probes": ["beam"]},
            "experiments.spelling.probes = beam: do not go with classification, the task of digits",
        ),
        (
            {"training": TRAINING | {"augmentation": "flip_crop"}},
            "experiments.spelling.training.augmentation = flip_crop: must be none for sequences, the task of words",
        ),
        (
            {"training": TRAINING | {"batch_size": 200}},
            "experiments.spelling.training.batch_size = 200: must be at most the 100 training samples of words",
        ),
    ],
)
def test_what_does_not_go_with_sequences_is_refused(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_study(study(**changes))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"width": 10}, "width = 10: must be a multiple of heads = 4"),
        ({"head": "cosine"}, "head = cosine: a transformer has a linear head"),
    ],
)
def test_a_transformer_that_cannot_be_is_refused(model, message):
    content = study()
    content["models"]["small"] |= model
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_study(content)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ({"widths": [0]}, "widths"),
        ({"width": 0}, "width"),
        ({"temperatures": [0.0, 1.0]}, "temperatures"),
        ({"temperatures": [2.0, 1.0]}, "must ascend, each once"),
    ],
)
def test_a_beam_of_width_0_and_a_temperature_of_0_are_refused(probe, message):
    content = study(probes=["beam"])
    content["probes"]["beam"] |= probe
    with pytest.raises(ConfigError, match=message):
        load_study(content)
