"""Probes of a study: what they may ask, of which experiments, and what the stage gets of them."""

import pytest

from nclens.study import ConfigError, load_study
from nclens.study.claims import comparisons
from nclens.workflow import specs
from nclens.workflow.plan import Plan

PROBES = {
    "digits8": {"kind": "transfer", "dataset": "digits8"},
    "four_nine": {"kind": "mutual_information", "classes": [4, 9]},
    "variance": {"kind": "gradient_variance", "smoothing": 0.2},
}


@pytest.fixture
def probed(raw_study):
    """The smoke study with every kind of probe."""
    raw_study["datasets"]["digits8"] = {"source": "digits8"}
    raw_study["probes"] = {name: dict(probe) for name, probe in PROBES.items()}
    raw_study["experiments"]["smoke"]["probes"] = list(PROBES)
    return raw_study


def spec_of(raw):
    study = load_study(raw)
    return specs.probe(study, next(study.runs()))


def test_the_stage_gets_the_probes_with_their_epochs_and_nothing_of_the_loss(probed):
    spec = spec_of(probed)
    assert spec.snapshots == (1, 2, 6)
    assert {probe.kind: probe.snapshots for probe in spec.probes} == {
        "transfer": (6,),
        "mutual_information": (1, 2, 6),
        "gradient_variance": (1, 2, 6),
    }
    assert spec.probes[1].arguments["classes"] == [4, 9]
    probed["losses"]["ce"] = {"name": "ls", "smoothing": 0.3}
    assert spec_of(probed) == spec


def test_where_all_ask_at_the_end_only_the_last_snapshot_is_read(probed):
    probed["experiments"]["smoke"]["probes"] = ["digits8"]
    assert spec_of(probed).snapshots == (6,)
    del probed["experiments"]["smoke"]["probes"]
    assert load_study(probed).probed_epochs("smoke") == []


def test_of_several_probes_of_a_kind_each_has_metrics_of_its_own(probed):
    probed["probes"]["one_seven"] = {"kind": "mutual_information", "classes": [1, 7]}
    probed["experiments"]["smoke"]["probes"].append("one_seven")
    suffixes = [(probe.kind, probe.suffix) for probe in spec_of(probed).probes]
    assert suffixes == [
        ("transfer", ""),
        ("mutual_information", "/four_nine"),
        ("gradient_variance", ""),
        ("mutual_information", "/one_seven"),
    ]


def test_a_probe_reaches_only_the_steps_that_use_it(probed):
    def steps():
        study = load_study(probed)
        run = next(study.runs())
        of_run = {
            step: getattr(specs, step)(study, run) for step in ("train", "extract", "measure", "probe", "track_run")
        }
        return of_run | {step: getattr(specs, step)(study) for step in ("collect", "judge", "draw", "theory")}

    def changed(before, after):
        return {step for step in before if before[step] != after[step]}

    first = steps()
    probed["probes"]["variance"]["samples"] = 77
    second = steps()
    assert changed(first, second) == {"probe", "draw"}
    probed["experiments"]["smoke"]["projection_classes"] = [1, 2, 3]
    third = steps()
    assert changed(second, third) == {"draw", "measure"}  # the film has their plane
    probed["experiments"]["smoke"]["probes"] = []
    assert changed(third, steps()) == {"probe", "collect", "track_run", "draw"}


def test_figures_of_probes_are_drawn_where_there_is_the_probe(probed):
    figures = {"probe_accuracy", "mutual_information", "gradient_variance"}
    assert figures <= set(load_study(probed).figures("smoke"))
    probed["experiments"]["smoke"]["probes"] = ["variance"]
    assert figures & set(load_study(probed).figures("smoke")) == {"gradient_variance"}


def test_the_resolved_study_resolves_to_itself(probed):
    study = load_study(probed)
    assert load_study(study.resolved()).resolved() == study.resolved()


MISTAKES = {
    "unknown kind": ({"probes": {"p": {"kind": "transfr"}}}, ["probes.p", "`transfr`", "did you mean `transfer`"]),
    "no kind": ({"probes": {"p": {}}}, ["probes.p", "needs the key `kind`", "gradient_variance"]),
    "no data set": ({"probes": {"p": {"kind": "transfer"}}}, ["probes.p.dataset", "missing"]),
    "a data set that is not there": (
        {"probes": {"p": {"kind": "transfer", "dataset": "usps"}}},
        ["probes.p.dataset = usps", "mnist5k, digits8"],
    ),
    "one class twice": (
        {"probes": {"p": {"kind": "mutual_information", "classes": [3, 3]}}},
        ["probes.p", "[3, 3]", "two different"],
    ),
    "one class": ({"probes": {"p": {"kind": "mutual_information", "classes": [3]}}}, ["probes.p.classes.1", "missing"]),
    "unknown augmentation": (
        {"probes": {"p": {"kind": "mutual_information", "augmentation": "spin"}}},
        ["augmentation = 'spin'", "'shift' or 'flip_crop'"],
    ),
    "no smoothing": (
        {"probes": {"p": {"kind": "gradient_variance", "smoothing": 0}}},
        ["probes.p.smoothing = 0", "greater than 0"],
    ),
    "a layer twice": (
        {"probes": {"p": {"kind": "layers", "names": ["a", "a"]}}},
        ["probes.p.names", "has a twice; allowed: each layer once"],
    ),
    "no layers": ({"probes": {"p": {"kind": "layers", "names": []}}}, ["probes.p.names", "must not be empty"]),
    "no samples": (
        {"probes": {"p": {"kind": "sharpness", "samples": 0}}},
        ["probes.p.samples = 0", "greater than or equal to 1"],
    ),
    "one sample": (
        {"probes": {"p": {"kind": "gradient_variance", "samples": 1}}},
        ["probes.p.samples = 1", "greater than or equal to 2"],
    ),
    "a name that MLflow refuses": (
        {"probes": {"p+q": {"kind": "gradient_variance"}}},
        ["probes", "p+q", "must be a name without +"],
    ),
    "a probe that is not there": ({"ask": ["nothing"]}, ["experiments.smoke.probes = nothing", "`probes`", "digits8"]),
    "a probe twice": ({"ask": ["variance", "variance"]}, ["probes", "must not repeat"]),
    "a class that does not exist": (
        {"probes": {"p": {"kind": "mutual_information", "classes": [4, 10]}}, "ask": ["p"]},
        ["probes.p.classes = [4, 10]", "mnist5k has 10 classes, numbered from 0 to 9"],
    ),
    "projection classes that do not exist": (
        {"projection": [0, 1, 12]},
        ["experiments.smoke.projection_classes = [0, 1, 12]", "mnist5k has 10 classes"],
    ),
    "two projection classes": ({"projection": [0, 1]}, ["projection_classes.2", "missing"]),
    "a projection class twice": ({"projection": [0, 1, 1]}, ["projection_classes [0, 1, 1]", "must not repeat"]),
    "images of another shape": (
        {
            "data": {"cifar": {"source": "torchvision", "name": "CIFAR10"}},
            "probes": {"p": {"kind": "transfer", "dataset": "cifar"}},
            "ask": ["p"],
        },
        ["probes.p.dataset = cifar", "shape (3, 32, 32)", "those of mnist5k", "(1, 28, 28)"],
    ),
    "outsiders of another shape": (
        {
            "data": {"coloured": {"source": "textures", "channels": 3}},
            "probes": {"p": {"kind": "out_of_distribution", "dataset": "coloured"}},
            "ask": ["p"],
        },
        ["probes.p.dataset = coloured", "shape (3, 28, 28)", "those of mnist5k", "(1, 28, 28)"],
    ),
    "outsiders of the network's own data": (
        {"probes": {"p": {"kind": "out_of_distribution", "dataset": "mnist5k"}}, "ask": ["p"]},
        ["experiments.smoke.probes: probes.p.dataset = mnist5k: is the experiment's own; allowed: another"],
    ),
    "another kind of shift": (
        {"probes": {"p": {"kind": "out_of_distribution", "dataset": "digits8", "shift": "far"}}},
        ["probes.p.shift = 'far'", "'semantic' or 'covariate'"],
    ),
    "no direction": (
        {"probes": {"p": {"kind": "out_of_distribution", "dataset": "digits8", "directions": 0}}},
        ["probes.p.directions = 0", "greater than or equal to 1"],
    ),
    "more directions than dimensions": (
        {
            "data": {"far": {"source": "textures"}},
            "probes": {"p": {"kind": "out_of_distribution", "dataset": "far", "directions": 33}},
            "ask": ["p"],
        },
        ["smoke.probes: probes.p.directions = 33: must be at most 32, the feature dimension of models.resnet8"],
    ),
    "a cut-off of one": (
        {"probes": {"p": {"kind": "out_of_distribution", "dataset": "digits8", "cutoff": 1}}},
        ["probes.p.cutoff = 1", "less than 1"],
    ),
    "segmentation of labels": (
        {"probes": {"p": {"kind": "segmentation", "dataset": "digits8"}}},
        ["probes.p.dataset = digits8: is of classification; a probe of kind `segmentation` takes one of segmentation"],
    ),
    "transfer to masks": (
        {"data": {"scenes": {"source": "scenes"}}, "probes": {"p": {"kind": "transfer", "dataset": "scenes"}}},
        ["probes.p.dataset = scenes: is of segmentation; a probe of kind `transfer` takes one of classification"],
    ),
    "scenes of other channels": (
        {
            "data": {"pets": {"source": "oxford_pets"}},
            "probes": {"p": {"kind": "segmentation", "dataset": "pets"}},
            "ask": ["p"],
        },
        ["probes.p.dataset = pets: its images have 3 channels, those of mnist5k, the networks' own, 1"],
    ),
    "scenes of digits that the networks know": (
        {
            "data": {"scenes": {"source": "scenes", "train_per_class": 10}},
            "probes": {"p": {"kind": "segmentation", "dataset": "scenes"}},
            "ask": ["p"],
        },
        [
            "probes.p.dataset = scenes: its test scenes may have digits",
            "split_seed = 0",
            "of 20 or more",
        ],
    ),
    "small scenes": ({"data": {"scenes": {"source": "scenes", "image_size": 39}}}, ["image_size = 39", "40"]),
    "a head that there is not": (
        {
            "data": {"scenes": {"source": "scenes"}},
            "probes": {"p": {"kind": "segmentation", "dataset": "scenes", "head": "upernet"}},
        },
        ["probes.p.head = 'upernet'", "'fcn' or 'linear'"],
    ),
    "more digits than there are": ({"digits8": {"train_per_class": 150}}, ["datasets.digits8", "at most 174"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_key_value_and_what_is_allowed(probed, mistake):
    change, words = MISTAKES[mistake]
    probed["probes"] |= change.get("probes", {})
    probed["datasets"] |= change.get("data", {})
    probed["datasets"]["digits8"] |= change.get("digits8", {})
    experiment = probed["experiments"]["smoke"]
    experiment |= {
        key: change[name] for key, name in (("probes", "ask"), ("projection_classes", "projection")) if name in change
    }
    with pytest.raises(ConfigError) as caught:
        load_study(probed)
    for word in words:
        assert word in str(caught.value)


def test_detection_gets_the_part_of_the_test_split_that_the_temperature_is_fitted_on(probed):
    probed["probes"]["far"] = {"kind": "out_of_distribution", "dataset": "digits8"}
    probed["experiments"]["smoke"]["probes"] = ["digits8", "far"]
    probed["measure"] = {"held_out": 0.25, "held_out_seed": 3}
    transfer, far = spec_of(probed).probes
    assert (far.arguments["held_out"], far.arguments["held_out_seed"]) == (0.25, 3)
    assert far.arguments["dataset"] == "digits8"
    assert transfer.arguments["held_out"] == 0.2  # its own key, of the other data's training split


def test_classes_are_checked_where_they_are_known_before_the_data_are_read(probed, tmp_path):
    probed["datasets"]["mnist5k"] = {"source": "arrays", "path": "mine.npz"}
    probed["probes"]["four_nine"]["classes"] = [4, 900]
    probed["experiments"]["smoke"]["projection_classes"] = [7, 8, 900]
    assert load_study(probed).figures("smoke").count("projections") == 1
    probed["datasets"]["mnist5k"] = {"source": "torchvision", "name": "RenderedSST2", "image_size": 28}
    probed["probes"] = {}
    del probed["experiments"]["smoke"]["probes"], probed["experiments"]["smoke"]["projection_classes"]
    study = load_study(probed)
    assert "projections" not in study.figures("smoke")
    assert load_study(study.resolved()).resolved() == study.resolved()
    probed["experiments"]["smoke"]["figures"] = ["projections"]
    with pytest.raises(ConfigError, match="mnist5k has 2 classes"):
        load_study(probed)


def test_probes_ask_classifiers(probed, tmp_path):
    (tmp_path / "mine.py").write_text("def data():\n    return {}\n")
    probed["datasets"]["mnist5k"] = {"function": "mine:data", "task": "regression"}
    probed["losses"] = {"nmse": {"name": "squared_error"}}
    probed["experiments"]["smoke"] |= {"losses": ["nmse"], "probes": ["variance"]}
    with pytest.raises(
        ConfigError, match=r"experiments.smoke.probes = variance: do not go with regression, the task of mnist5k"
    ):
        load_study(probed, [tmp_path])

    probed["probes"]["depth"] = {"kind": "layers"}
    probed["experiments"]["smoke"]["probes"] = ["depth"]
    study = load_study(probed, [tmp_path])
    assert specs.probe(study, next(study.runs())).probes[0].split == "both"
    assert "nrc_layers" in study.figures("smoke")


def test_masks_are_no_data_of_an_experiment_and_a_perceptron_has_no_feature_map(probed):
    probed["datasets"]["scenes"] = {"source": "scenes"}
    probed["probes"] = {"dense": {"kind": "segmentation", "dataset": "scenes"}}
    experiment = probed["experiments"]["smoke"]
    experiment["probes"] = ["dense"]
    study = load_study(probed)
    assert study.transfer_datasets("smoke") == ["scenes"]
    assert "segmentation" in study.figures("smoke")
    (spec,) = spec_of(probed).probes
    assert (spec.snapshots, spec.arguments["backbone"], spec.arguments["head"]) == ((6,), "frozen", "fcn")
    assert load_study(study.resolved()).resolved() == study.resolved()
    experiment["dataset"] = "scenes"
    with pytest.raises(ConfigError, match=r"experiments.smoke.dataset = scenes: has masks, .* allowed: a data set of"):
        load_study(probed)
    experiment["dataset"] = "mnist5k"
    probed["models"]["resnet8"] = {"name": "mlp"}
    with pytest.raises(ConfigError, match=r"probes.dense: models.resnet8 is a perceptron, which has no feature map"):
        load_study(probed)


def test_sharpness_alone_knows_the_loss_and_runs_again_when_it_is_edited(probed):
    assert spec_of(probed).loss is None
    probed["probes"] = {"sharp": {"kind": "sharpness"}}
    probed["experiments"]["smoke"]["probes"] = ["sharp"]
    study = load_study(probed)
    runs = {run.loss: run for run in study.runs()}
    spec = specs.probe(study, runs["ls"])
    assert (spec.loss.name, spec.loss.arguments, spec.epochs) == ("ls", {"smoothing": 0.05}, 6)
    assert specs.decode(specs.ProbeRun, specs.encode(spec)) == spec
    used = Plan(study).code_used("probe", runs["ls"])
    assert "nclens.losses:ls" in used["functions"]
    assert specs.LOSS_AFTER.partition(":")[0] in used["modules"]


MINE = "def probe(network, inputs, labels, generator, size=1): ...\ndef other(network, other): ...\n"


@pytest.fixture
def own(probed, tmp_path):
    """The study with a probe of the user's own, and the folder of its function."""
    (tmp_path / "mine.py").write_text(MINE)
    probed["probes"]["mine"] = {"function": "mine:probe", "parameters": {"size": 2}, "better": "lower"}
    probed["experiments"]["smoke"]["probes"] = ["variance", "mine"]
    return probed, tmp_path


def test_the_stage_gets_probes_of_the_users_own_beside_the_built_in_ones(own):
    raw, folder = own
    raw["probes"]["mine"] |= {"snapshots": "last", "dataset": "digits8", "splits": ["train", "test"]}
    study = load_study(raw, [folder])
    spec = specs.probe(study, next(study.runs()))
    assert [probe.kind for probe in spec.probes] == ["gradient_variance"]
    (found,) = spec.own_probes
    assert (found.name, found.function, found.arguments) == ("mine", "mine:probe", {"size": 2})
    assert (found.snapshots, found.splits, found.dataset) == ((6,), ("train", "test"), "digits8")
    assert study.transfer_datasets("smoke") == ["digits8"]
    assert specs.decode(specs.ProbeRun, specs.encode(spec)) == spec
    assert [(metric.name, metric.better) for metric in specs.report(study, "").metrics] == [("mine", "lower")]
    assert load_study(study.resolved(), [folder]).resolved() == study.resolved()


def test_an_edit_of_the_users_probe_probes_again_and_neither_trains_nor_measures(own):
    raw, folder = own
    study = load_study(raw, [folder])

    def codes(run):
        plan = Plan(study)
        return {stage: plan.code(stage, run) for stage in ("train", "extract", "measure", "probe", "draw", "report")}

    run = next(study.runs())
    before = codes(run)
    (folder / "mine.py").write_text(MINE.replace("...", "return size", 1))
    after = codes(run)
    assert {stage for stage in before if before[stage] != after[stage]} == {"probe"}


def test_probes_of_the_users_own_are_of_any_task(own):
    raw, folder = own
    (folder / "data.py").write_text("def data():\n    return {}\n")
    raw["datasets"]["mnist5k"] = {"function": "data:data", "task": "regression"}
    raw["losses"] = {"nmse": {"name": "squared_error"}}
    raw["experiments"]["smoke"] |= {"losses": ["nmse"], "probes": ["mine"]}
    assert load_study(raw, [folder]).experiments["smoke"].probes == ("mine",)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "mine",
            {"parameters": {"siz": 2}},
            r"probes\.mine: parameters: .* `siz` \(did you mean `size`\?\)",
        ),
        ("mine", {"parameters": {"labels": 2}}, r"gets `labels` from us \(network, inputs"),
        (
            "mine",
            {"function": "mine:other", "parameters": {}},
            r"needs the parameters `other`; .* by name network",
        ),
        ("mine", {"snapshots": "some"}, r"probes\.mine\.snapshots = 'some'"),
        ("mine", {"dataset": "usps"}, r"probes\.mine\.dataset = usps: no such entry in `datasets`"),
        ("my-own", {}, r"probes\.my-own: a function's probe has a name of letters, digits and _"),
        ("nc1", {}, r"probes\.nc1: is the name of a built-in metric"),
        ("probe_accuracy", {}, r"probes\.probe_accuracy: is the name of a built-in metric"),
        ("rank", {}, r"probes\.rank: is the name of `metrics`"),
    ],
)
def test_a_mistake_in_a_probe_of_the_users_own_is_named(own, name, change, message):
    raw, folder = own
    (folder / "rank.py").write_text("def rank(features): ...")
    raw["metrics"] = {"rank": {"function": "rank:rank"}}
    raw["probes"][name] = raw["probes"].pop("mine") | change
    raw["experiments"]["smoke"]["probes"] = [name]
    with pytest.raises(ConfigError, match=message):
        load_study(raw, [folder])


def test_a_claim_may_be_on_a_probe_of_the_users_own(own):
    raw, folder = own
    claim = {"metric": "mine_noise", "split": "test", "direction": "below", "margin": 0}
    raw["claims"] = {"c": claim}
    study = load_study(raw, [folder])
    assert comparisons("c", study) == [("smoke", "ls", "ce")]
    assert study.claims["c"].known.label == "mine, noise"
    raw["claims"] = {"c": claim | {"split": "train"}}
    with pytest.raises(ConfigError, match=r"`mine_noise` is measured on test alone"):
        load_study(raw, [folder])
    raw["probes"]["mine"]["snapshots"] = "last"
    raw["claims"] = {"c": claim | {"at": "epoch 1"}}
    with pytest.raises(ConfigError, match=r"claims\.c\.at = epoch 1: .* has no snapshot then; allowed: 6"):
        load_study(raw, [folder])
    raw["experiments"]["smoke"]["probes"] = ["variance"]
    with pytest.raises(ConfigError, match=r"claims\.c: compares nothing; .* or the probe that yields it"):
        load_study(raw, [folder])
