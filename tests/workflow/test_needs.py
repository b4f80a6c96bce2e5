"""What jobs ask of a cluster."""

import json
from dataclasses import replace

import pytest

from nclens.workflow import specs
from nclens.workflow.needs import BASE_MB, measuring_needs, probing_needs, training_needs

SMALL, MIDDLE, LARGE = (specs.Entry("net", f"resnet{layers}") for layers in (8, 18, 50))
SGD = specs.Optimizer(0.05, 0.0, {"momentum": 0.9, "nesterov": False}, "sgd")
CONSTANT = specs.LrSchedule("constant", 0, {})
TRAINING = specs.Training(10, 128, SGD, CONSTANT, None, "none", 1, "cpu", "float32", False, False, "auto")
SPEC = specs.Train("data", MIDDLE, specs.Loss("ce", "ce"), 0, TRAINING, None, (1, 10))
PLAIN = specs.plain(SPEC)


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def record(path, **changes):
    return write(path, {"spec": PLAIN, "wall_time": 600.0, "peak_memory_bytes": 4e9} | changes)


def test_what_was_measured_takes_the_place_of_the_estimate(tmp_path):
    manifest = tmp_path / "missing.json"
    estimate = training_needs(SPEC, manifest, [tmp_path / "missing" / "run.json"])
    measured = training_needs(
        SPEC, manifest, [record(tmp_path / "a.json"), record(tmp_path / "b.json", wall_time=60.0)]
    )
    assert measured == (20, 5200)  # 1.5 x 10 minutes of the slower one and 5, 1.3 x 4 GB
    assert estimate.minutes > measured.minutes


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        {},
        {"spec": PLAIN | {"dataset": "other"}, "wall_time": 1, "peak_memory_bytes": 1},
        {"spec": PLAIN | {"training": PLAIN["training"] | {"epochs": 1}}, "wall_time": 1, "peak_memory_bytes": 1},
    ],
)
def test_records_of_other_work_or_broken_ones_do_not_count(tmp_path, content):
    manifest = tmp_path / "missing.json"
    expected = training_needs(SPEC, manifest, [])
    assert training_needs(SPEC, manifest, [write(tmp_path / "run.json", content)]) == expected


def test_an_estimate_grows_with_the_work(tmp_path):
    small = write(tmp_path / "small.json", {"shape": [3, 32, 32], "train": 5000, "test": 1000})
    large = write(tmp_path / "large.json", {"shape": [3, 64, 64], "train": 5000, "test": 1000})
    first, second = training_needs(SPEC, small, []), training_needs(SPEC, large, [])
    assert second.minutes > first.minutes
    assert second.memory_mb > first.memory_mb > BASE_MB
    longer = replace(SPEC, training=replace(TRAINING, epochs=100))
    assert training_needs(longer, small, []).minutes > first.minutes
    quick = replace(SPEC, training=replace(TRAINING, device="cuda"))
    assert training_needs(quick, small, []).minutes < first.minutes


def test_measuring_needs_grow_with_the_features(tmp_path):
    manifest = write(tmp_path / "data.json", {"shape": [3, 32, 32], "train": 50_000, "test": 10_000})
    spec = specs.Extract("data", LARGE, tuple(range(30)), (29,), "cuda")
    narrow, wide = measuring_needs(spec, manifest, 64), measuring_needs(spec, manifest, 2048)
    assert wide.memory_mb > narrow.memory_mb
    assert wide.minutes >= narrow.minutes
    # 60,000 x 2,048 features of four bytes are half a gigabyte: a copy of them fits below 4 GB.
    assert wide.memory_mb < 4000


def test_needs_of_sequences_grow_with_the_vocabulary(tmp_path):
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "width": 64}
    model = specs.Entry("small", "transformer", arguments=sizes)
    facts = {"task": "sequences", "shape": [100], "train": 20_000, "test": 1000}
    facts |= {"tokens": {"train": 400_000, "test": 20_000}, "vocabulary": {"longest_target": 50}}
    facts |= {"measured": {"train": list(range(1000)), "test": list(range(1000))}}
    small, large = (write(tmp_path / f"{count}.json", facts | {"classes": ["a"] * count}) for count in (40, 8000))
    extract = specs.Extract("data", model, (1, 10), (1, 10), "cpu")
    first, second = measuring_needs(extract, small, 64), measuring_needs(extract, large, 64)
    # 20,000 tokens of each split: 5.1 GB in double precision, four at once, and 1.3 GB in single precision.
    assert second.memory_mb - first.memory_mb == pytest.approx(1e-6 * (4 * 8 + 2 * 4) * 20_000 * 7960, rel=1e-3)
    assert second.minutes > first.minutes + 15
    spec = replace(SPEC, model=model)
    assert training_needs(spec, large, []).minutes > training_needs(spec, small, []).minutes


def test_probing_needs_grow_with_what_is_asked(tmp_path):
    manifests = {
        "data": write(tmp_path / "data.json", {"shape": [3, 32, 32], "train": 50_000, "test": 10_000}),
        "other": write(tmp_path / "other.json", {"train": 50_000, "test": 10_000, "classes": list("abc")}),
    }
    transfer = specs.Probe("transfer", {"dataset": "other"}, snapshots=(10,))
    variance = specs.Probe("gradient_variance", {"samples": 50_000}, snapshots=(1, 10))
    information = specs.Probe("mutual_information", {"samples": 50_000, "draws": 5}, snapshots=(1, 10))

    def needs(*probes, device="cpu"):
        return probing_needs(specs.ProbeRun("data", MIDDLE, (1, 10), device, "run", 0, probes), manifests, 512)

    minutes = [needs(*asked).minutes for asked in ([variance], [variance, information], [variance, transfer])]
    assert minutes[0] > needs().minutes
    assert min(minutes[1:]) > minutes[0]
    assert needs(transfer).memory_mb > needs(variance).memory_mb
    arguments = {"dataset": "other", "epochs": 20, "bounds": False}
    dense = specs.Probe("segmentation", arguments, snapshots=(10,))
    small, bounded = needs(dense), needs(replace(dense, arguments=arguments | {"bounds": True}))
    assert bounded.minutes > small.minutes > needs().minutes
    write(tmp_path / "other.json", {"shape": [3, 96, 96], "train": 50_000, "test": 10_000, "classes": list("abc")})
    assert needs(dense).minutes > 8 * small.minutes
    assert needs(dense).memory_mb > small.memory_mb
    assert needs(replace(variance, snapshots=(10,))).minutes < needs(variance).minutes
    assert needs(variance, device="cuda").minutes < needs(variance).minutes
    own = specs.OwnProbe("mine", "mine:probe", "mine.py", {}, ("test",), snapshots=(10,))

    def own_needs(**changes):
        spec = specs.ProbeRun("data", MIDDLE, (1, 10), "cpu", "run", 0, (), (replace(own, **changes),))
        return probing_needs(spec, manifests, 512)

    assert own_needs().minutes > needs().minutes
    assert own_needs(splits=("train", "test")).minutes > own_needs().minutes
    assert own_needs(snapshots=(1, 10)).minutes > own_needs().minutes
    assert own_needs(dataset="other").memory_mb > own_needs().memory_mb


def test_numbers_are_whole(tmp_path):
    for needs in (
        training_needs(SPEC, tmp_path / "x", []),
        measuring_needs(specs.Extract("data", MIDDLE, (1, 10), (1, 10), "cpu"), tmp_path / "x", None),
    ):
        assert all(isinstance(value, int) and value > 0 for value in needs)


def test_a_student_needs_the_time_of_its_teachers_forward_pass_too(tmp_path):
    manifest = write(tmp_path / "data.json", {"shape": [3, 32, 32], "train": 50_000, "test": 10_000})
    alone = replace(SPEC, model=SMALL, training=replace(TRAINING, epochs=100))
    student = replace(alone, teacher=specs.Teacher("data/large/ce/seed0", MIDDLE, 10))
    assert training_needs(student, manifest, []).minutes > 20 * training_needs(alone, manifest, []).minutes


def test_a_student_is_not_measured_by_a_run_without_its_teacher(tmp_path):
    student = replace(SPEC, teacher=specs.Teacher("data/large/ce/seed0", LARGE, 10))
    file, missing = record(tmp_path / "run.json"), tmp_path / "missing.json"
    assert training_needs(student, missing, [file]) == training_needs(student, missing, [])
    other = replace(student, teacher=replace(student.teacher, run="data/large/ls/seed1"))
    same = record(tmp_path / "same.json", spec=specs.plain(other))
    assert training_needs(student, missing, [same]) == (20, 5200)


def test_several_devices_share_the_time_and_each_has_a_process_with_the_data(tmp_path):
    manifest = write(tmp_path / "data.json", {"shape": [3, 32, 32], "train": 50_000, "test": 10_000})
    four = replace(SPEC, training=replace(TRAINING, devices=4))
    one, shared = training_needs(SPEC, manifest, []), training_needs(four, manifest, [])
    assert shared.minutes - 10 == pytest.approx((one.minutes - 10) / 4, abs=1)
    assert shared.memory_mb > one.memory_mb + 3 * BASE_MB
    small = record(tmp_path / "a.json", spec=specs.plain(four), peak_memory_bytes=1e6)
    assert training_needs(four, manifest, [small]).memory_mb == 4 * BASE_MB
