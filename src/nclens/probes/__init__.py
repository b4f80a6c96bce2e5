"""What is asked of a trained network where its features alone do not tell: it is run again, on other data or samples.

One file a question: how well its features serve another task (`transfer`), how much its gradients differ between
samples (`gradients`), and how much its logits tell of the single input (`information`).
"""

from nclens.probes.gradients import gradient_variance
from nclens.probes.information import AUGMENTATIONS, logit_differences, random_shift
from nclens.probes.transfer import STRENGTHS, LinearProbe, linear_probe

__all__ = [
    "AUGMENTATIONS",
    "STRENGTHS",
    "LinearProbe",
    "gradient_variance",
    "linear_probe",
    "logit_differences",
    "random_shift",
]
