"""The catalogue of figures: complete, plain, and the same figures for every study."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from nclens.claims import CLAIMS, pairs
from nclens.figures.catalogue import FIGURES, described
from nclens.study import load_study, read_study
from nclens.workflow import specs
from nclens.workflow.build.figures import draw_figure

PAIRED = ("losses", "kinds", "strengths", "baseline", "optimizers", "peers", "models")
STUDIES = Path(__file__).parents[2] / "studies"
EVERY = (
    *("collapse_curves", "first_epochs", "nc1_nc2", "train_test", "training_loss", "nc0_law", "norms"),
    *("correct_incorrect", "reliability", "ece_temperature", "risk_coverage", "projections"),
)
MODEL = ("ufm_conditioning", "ufm_dynamics")
PLAIN = (*EVERY, "arcs", "specification_curve", *MODEL)
FEW_SEEDS = (*EVERY, "arcs", *MODEL)
"""Of two seeds no effect has an interval."""
REGRESSION = ("nrc_curves", "nrc_gram", "residuals")
MAXSUP = ("smoothing_parts", "class_spread")
DROPPED = ("two_stage", "drop_epoch")
DETECTION = ("out_of_distribution", "detection_against_collapse")
SCHEDULES = ("schedule_profile", "collapse_curves", "two_stage", "ece_temperature", "class_spread", "probe_accuracy")
SWEEP = ("smoothing_collapse", "smoothing_calibration")
DRAWN = {
    "beam_search": {
        "simplex": (*PLAIN, *SWEEP, *MAXSUP, "decoding", "class_size"),
        "no_simplex": (*PLAIN, *SWEEP, *MAXSUP, "many_classes", "decoding", "class_size"),
    },
    "cifar10_augmented": {"cifar10": (*PLAIN, *MAXSUP)},
    "cifar10_interpolating": {"cifar10": (*PLAIN, *MAXSUP)},
    "cifar10_5k": {"cifar10_5k": (*PLAIN, "layers")},
    "dense_prediction": {"dense": (*PLAIN, *MAXSUP, "segmentation")},
    "fashion": {name: (*PLAIN, *MAXSUP, *DROPPED, "probe_accuracy") for name in ("interpolating", "not_interpolating")},
    "imagenet_maxsup": {"imagenet": (*EVERY, "specification_curve", *MODEL, *MAXSUP)},
    "label_noise": {"label_noise": (*PLAIN, *MAXSUP)},
    "layers": {name: (*PLAIN, "layers", "sharpness") for name in ("resnet", "perceptron")},
    "long_tail": {"long_tail": (*PLAIN, *MAXSUP, "class_size")},
    "losses": {
        "losses": (*PLAIN, *MAXSUP, *DROPPED, "nrc_classification", "probe_accuracy"),
        "students": (),
    },
    "losses_full": {
        "cifar10": (*PLAIN, *SWEEP, *MAXSUP, *DROPPED, "nrc_classification", "probe_accuracy"),
        "cifar100": (*PLAIN, *SWEEP, *MAXSUP, *DROPPED, "nrc_classification", "probe_accuracy"),
        "students": (),
    },
    "many_classes": {name: ("collapse_curves", "many_classes") for name in ("d2", "d6", "d16")},
    "many_classes_omniglot": {"omniglot": ("collapse_curves", "many_classes")},
    "maxsup": {
        "maxsup": (*PLAIN, *MAXSUP, "probe_accuracy"),
        "ablations": ("collapse_curves", *MAXSUP, "probe_accuracy"),
    },
    "maxsup_full": {
        "resnet18": (*PLAIN, *MAXSUP, "probe_accuracy"),
        "resnet50": (*PLAIN, *MAXSUP, "probe_accuracy"),
    },
    "optimisers": {"optimisers": PLAIN},
    "optimisers_fashion": {"optimisers": PLAIN},
    "optimisers_grid": {"grid": ()},
    "out_of_distribution": {"detection": (*PLAIN, *SWEEP, *MAXSUP, *DETECTION)},
    "out_of_distribution_full": {
        "cifar10": (*PLAIN, *MAXSUP, *DETECTION),
        "mnist": (*PLAIN, *MAXSUP, *DETECTION),
    },
    "paper_cifar10": {"cifar10": PLAIN},
    "paper_cifar10_short": {"cifar10": FEW_SEEDS},
    "paper_cifar100": {"cifar100": PLAIN},
    "paper_stl10": {"stl10": PLAIN},
    "paper_tinyimagenet": {"tinyimagenet": PLAIN},
    "regression": {"weight_decay": REGRESSION, "regularised": REGRESSION},
    "regression_more": {
        "hopper": REGRESSION,
        "swimmer": REGRESSION,
        "univariate": REGRESSION,
        "images": REGRESSION,
        "classification": (*EVERY, "nrc_classification"),
    },
    "schedules": {"schedules": SCHEDULES, "students": ()},
    "schedules_full": {"schedules": SCHEDULES, "students": ()},
    "smoke": {"smoke": FEW_SEEDS},
    "smoothing_sweep": {"sweep": (*PLAIN, *SWEEP)},
    "smoothing_sweep_cifar10": {"sweep": (*SWEEP, "class_spread", "smoothing_parts", "ufm_conditioning")},
    "streamed_smoke": {"folder": FEW_SEEDS, "shards": ("collapse_curves",)},
    "translation": {"translation": (*EVERY, "specification_curve", *MODEL, "many_classes", "decoding")},
    "translation_full": {"translation": (*EVERY, "specification_curve", *MODEL, *MAXSUP, "many_classes", "decoding")},
    "translation_small": {"translation": (*EVERY, "specification_curve", *MODEL, "many_classes", "decoding")},
    "tsla_full": {name: (*PLAIN, *DROPPED, "gradient_variance") for name in ("cifar100", "cub_2011", "stanford_dogs")},
    "two_stage": {
        "two_stage": (*PLAIN, *DROPPED, "gradient_variance"),
        "drops": ("collapse_curves", *DROPPED, "gradient_variance"),
    },
    "ufm_regularised": {"regularised": (*PLAIN, *SWEEP, "theory_error")},
    "when_does_it_help": {
        "help": (*PLAIN, *SWEEP, "probe_accuracy", "mutual_information"),
        "students": ("distillation",),
    },
    "when_does_it_help_full": {
        "cifar10": (*PLAIN, *SWEEP, "probe_accuracy", "mutual_information"),
        "cifar100": (*PLAIN, *SWEEP, "probe_accuracy", "mutual_information"),
        "students": ("distillation",),
    },
}
"""Study -> experiment -> its figures, in order."""


@pytest.mark.parametrize("study", sorted(path.stem for path in STUDIES.glob("*.yaml")))
def test_a_study_draws_its_figures_in_this_order(study):
    loaded = load_study(read_study(STUDIES / f"{study}.yaml"), [STUDIES])
    assert {name: tuple(loaded.figures(name)) for name in loaded.experiments} == DRAWN[study]


@pytest.mark.parametrize("gone", ["constant", "linear", "drop"])
def test_the_profile_of_schedules_is_a_default_figure_of_three_kinds_of_them(raw_study, gone):
    schedules = {"constant": {}, "linear": {"kind": "linear", "end": 0}, "drop": {"kind": "drop", "epoch": 1}}
    losses = {kind: {"name": "ls", "smoothing": 0.1, "schedule": entry} for kind, entry in schedules.items()}
    losses["constant"].pop("schedule")
    (experiment,) = raw_study["experiments"].values()
    for chosen in (list(losses), [kind for kind in losses if kind != gone]):
        raw_study["losses"] = {kind: losses[kind] for kind in chosen}
        experiment["losses"] = chosen
        (name,) = raw_study["experiments"]
        assert ("schedule_profile" in load_study(raw_study).figures(name)) == (len(chosen) == 3)


SGD = {"name": "sgd", "learning_rate": 0.1}
ADAM = {"name": "adam", "learning_rate": 0.001}


@pytest.mark.parametrize(
    ("losses", "seeds", "drawn"),
    [
        ({"ce": {"name": "ce"}, "ls": {"name": "ls", "smoothing": 0.1}}, 3, True),
        ({"ce": {"name": "ce"}, "ls": {"name": "ls", "smoothing": 0.1}}, 2, False),
        ({"ce": {"name": "ce"}, "soft": {"name": "maxsup", "alpha": 0.1}}, 3, False),
        ({"ls": {"name": "ls", "smoothing": 0.1}, "ls2": {"name": "ls", "smoothing": 0.2}}, 3, False),
        # Claims on label smoothing compare what one optimiser minimises.
        ({"ce": {"name": "ce", "optimizer": SGD}, "ls": {"name": "ls", "smoothing": 0.1, "optimizer": ADAM}}, 3, False),
        (
            {
                **{"ce": {"name": "ce", "optimizer": SGD}, "ce_adam": {"name": "ce", "optimizer": ADAM}},
                "ls": {"name": "ls", "smoothing": 0.1, "optimizer": ADAM},
            },
            3,
            True,
        ),
    ],
)
def test_the_specification_curve_is_a_default_figure_where_label_smoothing_has_intervals(
    raw_study, losses, seeds, drawn
):
    (name,) = raw_study["experiments"]
    raw_study["losses"] = losses
    raw_study["experiments"][name] |= {"losses": list(losses), "seeds": list(range(seeds))}
    study = load_study(raw_study)
    assert ("specification_curve" in study.figures(name)) == drawn
    (experiment,) = specs.draw(study).experiments
    assert (experiment.judged is not None) == drawn
    if drawn:
        (judged,) = specs.judge(study).experiments
        assert experiment.judged == judged
        assert any(pairs(CLAIMS["C1"], **{key: judged.compared[key] for key in PAIRED}))


@pytest.mark.parametrize("stem", FIGURES)
def test_entries_are_complete(stem):
    entry = FIGURES[stem]
    assert entry.stem == stem
    assert entry.title
    assert entry.caption.endswith(".")
    assert entry.source.startswith(("figure ", "after arXiv", "after a figure of arXiv", "our own"))
    assert entry.task in ("classification", "regression")
    for named in filter(None, (entry.draw, entry.table)):
        module, function = named.split(":")
        assert callable(getattr(import_module(module), function))


def test_the_sweeps_name_the_papers_figures():
    sources = [FIGURES[stem].source for stem in ("smoothing_collapse", "smoothing_calibration")]
    assert [source.split(" of ")[0] for source in sources] == ["figure 6", "figure 7"]


def test_the_catalogue_is_plain_data():
    code = "import sys, nclens.figures.catalogue; print({'torch', 'matplotlib', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_facts_are_named_in_words():
    assert described("loss:mse") == "a loss mse"
    assert described("schedule:drop") == "a loss with a schedule of kind drop"
    assert described("closed_form") == "a loss with a closed form (ce, or ls without a schedule)"
    assert described("label_smoothing") == "label smoothing, and a baseline that it is compared with"
    assert described("training.ufm_regularised") == "training.ufm_regularised"


def test_an_unknown_figure_is_refused(simulate):
    with pytest.raises(ValueError, match="unknown figure pie; allowed: collapse_curves"):
        draw_figure("pie", simulate())
