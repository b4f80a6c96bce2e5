"""Sizes below which an effect does not count, one a kind of quantity, each with its reason.

They come from what a quantity resolves, from what a paper reports, or from what a reader would act on, never from
effects of our own studies. They say why a verdict is inconclusive and decide none.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Margin:
    """A margin.

    Attributes:
        size: of a difference the largest one that does not count, in the quantity's unit; of a ratio the factor, 1.1
            for a ratio between 1/1.1 and 1.1.
        reason: why it has this size.
    """

    size: float
    reason: str


ERROR = Margin(0.01, "one percentage point: ten of a thousand test samples")
TRANSFER = Margin(0.02, "two percentage points, a third of what MaxSup's table reports (.746 and .810)")
SEGMENTATION = Margin(0.02, "two percentage points of mIoU, as of a linear probe's accuracy")
ECE = Margin(0.01, "one percentage point: Müller et al. call .021 and .024 equally calibrated")
ECE_CLASSWISE = Margin(0.002, "a mean over classes: of ten, an error of 0.01 in the confidence adds 2/10 of it")
CONFIDENCE = Margin(0.03, "about half of one of the fifteen bins of a reliability diagram")
LOGITS = Margin(1.1, "a tenth: the lead of the top logit changes by factors over training")
COLLAPSE = Margin(1.1, "a tenth: over training the measures of collapse fall by factors of ten and more")
SPREAD = Margin(1.05, "half of the factor of 1.11 that MaxSup's table reports (.263 and .293)")
EPOCHS = Margin(1.1, "a tenth of the training")
VARIANCE = Margin(1.1, "a tenth: the standard error of a variance of two hundred Gaussian numbers")
INFORMATION = Margin(0.1, "in nats; about the bias of the estimate at five draws")
NLL = Margin(0.02, "in nats: two per cent of the perplexity of a token")
TRANSLATION = Margin(0.2, "in points: less than half of the difference that Müller et al. quote (25.3 and 25.8 BLEU)")
TEMPERATURE = Margin(0.1, "a tenth of a temperature, on the log scale")
RISK = Margin(0.005, "half a percentage point of error, averaged over coverages")
COVERAGE = Margin(0.02, "two percentage points of the samples")
AUROC = Margin(0.01, "one percentage point")
COSINE = Margin(0.05, "three degrees at a right angle")
RELATIVE_MARGIN = Margin(0.02, "one part in fifty of the norm that it is relative to")
ITERATIONS = Margin(1.1, "a tenth: the error up to which a predicted speed counts as explained")
