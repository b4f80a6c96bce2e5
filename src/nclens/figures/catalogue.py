"""Every figure: its title, source and caption, the function that draws it, and the experiments that it suits.

Plain data: importing it loads no plotting library. To add a figure, add an entry here and its function to the file of
its paper. Figures 1 to 12 of arXiv 2402.03979 are numbered as in our list of them, which may differ from print.
"""

from dataclasses import dataclass

PAPER = "figure {} of arXiv 2402.03979, in our numbering"
OWN = "our own"

GIVEN = (
    *("experiment", "losses", "labels", "colours", "baseline", "theory", "predictions"),
    *("class_names", "target_names", "last_features"),
)
"""The parts of `FigureInputs` that a figure of the user's own may name, beside the table of metrics."""


@dataclass(frozen=True)
class FigureEntry:
    """A figure of the catalogue.

    Attributes:
        stem: its name in the configuration and in file names.
        title: what the figure shows, a few words.
        source: the figure of a paper that it follows, or that it is our own.
        caption: how to read it, plain text.
        draw: `module:function`, a pure function of `FigureInputs` to a `Drawing`.
        task: the task of the experiments that it is for, classification or regression.
        needs: facts (see `nclens.study.study.Study.facts`) one of which an experiment must have; otherwise the figure
            has nothing to show and is refused. None: it is always possible.
        table: `module:function` that computes the table that it shows, where that is none of the study's; see
            `nclens.figures.inputs.FigureInputs.specifications`.
        suits: facts one of which an experiment must have for the figure to be drawn by default; otherwise it is drawn
            only when the experiment names it. None: it is a default figure.
    """

    stem: str
    title: str
    source: str
    caption: str
    draw: str
    task: str = "classification"
    needs: tuple[str, ...] = ()
    suits: tuple[str, ...] = ()
    table: str = ""

    def suitable(self, task: str, facts: set[str]) -> bool:
        """Return whether it is a default figure of an experiment with this task and these facts."""
        return self.task == task and all(not one_of or facts & set(one_of) for one_of in (self.needs, self.suits))


def described(fact: str) -> str:
    """Return a fact as messages name it.

    >>> described("probe:transfer")
    'a probe of kind transfer'
    """
    kind, _, name = fact.rpartition(":")
    forms = {"loss": "a loss {}", "schedule": "a loss with a schedule of kind {}", "probe": "a probe of kind {}"}
    if fact == CLOSED_FORM:
        return "a loss with a closed form (ce, or ls without a schedule)"
    if fact == SMOOTHING:
        return "label smoothing, and a baseline that it is compared with"
    if fact == ARCS:
        return "label smoothing, plain cross entropy as the baseline, and 3 to 1,000 classes"
    return forms.get(kind, "{}").format(name)


#: A loss that the unconstrained feature model has a closed form for.
CLOSED_FORM = "closed_form"
#: Label smoothing beside cross entropy, of so many classes that arcs are measured.
ARCS = "arcs"
#: Label smoothing, and what claims compare it with.
SMOOTHING = "label_smoothing"
#: Networks that are trained here, or imported at two epochs or more.
CURVES = ("training", "epochs")
#: A training split whose classes were made unequal, or whose classes are tokens.
IMBALANCE = "imbalance"
MAXSUP = ("loss:maxsup", "loss:ls_regularisation", "loss:ls_error_amplification", "loss:logit_penalty")

_ENTRIES = (
    FigureEntry(
        stem="collapse_curves",
        title="Error and neural collapse during training",
        source=PAPER.format(1),
        caption="Training and test error, and NC1 (log axis), NC2 and NC3 of the training set, against epoch. Lower is "
        "more collapsed. Dotted in the panel of NC3: the least NC3 that the classifier's NC0 allows, for class means "
        "centred by their mean.",
        draw="nclens.figures.cross_entropy_vs_label_smoothing:collapse_curves",
        suits=CURVES,
    ),
    FigureEntry(
        stem="first_epochs",
        title="The first epochs",
        source=PAPER.format(11),
        caption="Error, NC1 (log axis), NC2 and NC3 in the first epochs of training.",
        draw="nclens.figures.cross_entropy_vs_label_smoothing:first_epochs",
        suits=CURVES,
    ),
    FigureEntry(
        stem="nc1_nc2",
        title="NC2 at the same NC1",
        source=PAPER.format(2),
        caption="NC2 against NC1 of the training set, one point per epoch, coloured by test error. Where a loss runs "
        "below the dotted path, its NC2 is stronger than the baseline's at the same NC1.",
        draw="nclens.figures.cross_entropy_vs_label_smoothing:nc1_nc2",
        suits=CURVES,
    ),
    FigureEntry(
        stem="train_test",
        title="Neural collapse of the training set and of the test set",
        source=PAPER.format(12),
        caption="NC1 (log axis), NC2 and NC3 of the training set (solid) and of the test set (dashed), against epoch.",
        draw="nclens.figures.cross_entropy_vs_label_smoothing:train_test",
        suits=CURVES,
    ),
    FigureEntry(
        stem="training_loss",
        title="Training loss",
        source=PAPER.format(3),
        caption="The training objective, and its distance from its minimum over epochs on a log axis, against epoch. "
        "Objectives of different losses have different minima, so only the second panel compares speeds.",
        draw="nclens.figures.cross_entropy_vs_label_smoothing:training_loss",
        needs=("training",),
    ),
    FigureEntry(
        stem="nc0_law",
        title="NC0 and its law",
        source="our own, on NC0 (arXiv 2602.16642)",
        caption="NC0 of the classifier; over its value at the first snapshot, measured (solid) and as learning rate, "
        "momentum, weight decay and schedule alone predict it (dashed); and the relative deviation of the two, against "
        "epoch; log axes. Below the horizontal line NC0 follows its law to 1%.",
        draw="nclens.figures.nc0:nc0_law",
        needs=("training",),
    ),
    FigureEntry(
        stem="norms",
        title="Norms, temperature and calibration after training",
        source=PAPER.format(7),
        caption="Norms of class means and classifier rows, optimal temperature, and ECE before and after temperature "
        "scaling.",
        draw="nclens.figures.cross_entropy_vs_label_smoothing:norms",
    ),
    FigureEntry(
        stem="correct_incorrect",
        title="Correctly and incorrectly classified test samples",
        source=PAPER.format(8),
        caption="Cross entropy (log axis), predictive entropy and NC1 (log axis) of correctly (solid) and incorrectly "
        "(dashed) classified test samples, against epoch.",
        draw="nclens.figures.cross_entropy_vs_label_smoothing:correct_incorrect",
        suits=CURVES,
    ),
    FigureEntry(
        stem="reliability",
        title="Reliability before and after temperature scaling",
        source=PAPER.format(9),
        caption="Accuracy against confidence in 15 equal-width bins. On the diagonal the network is calibrated; below "
        "it, overconfident. Lower panels: number of samples in each bin.",
        draw="nclens.figures.reliability:reliability",
    ),
    FigureEntry(
        stem="ece_temperature",
        title="Calibration against temperature",
        source="our own, on the claim of arXiv 1906.02629 that label smoothing acts like temperature scaling",
        caption="ECE and cross entropy of the test set with all logits divided by T. A loss whose curve has its "
        "minimum near T = 1 needs no scaling.",
        draw="nclens.figures.temperature:ece_temperature",
    ),
    FigureEntry(
        stem="risk_coverage",
        title="Risk against coverage",
        source="our own, on the claims of arXiv 2403.14715",
        caption="Share of errors among the most confident test predictions, against their share of all. The lower the "
        "curve, the better confidence tells right from wrong. Left: predictions ranked by softmax probability; right: "
        "by the largest logit after logit normalisation.",
        draw="nclens.figures.risk_coverage:risk_coverage",
    ),
    FigureEntry(
        stem="projections",
        title="Features on the plane of three templates",
        source="after a figure of arXiv 1906.02629",
        caption="Penultimate features of three classes on the plane through their templates, training set above test "
        "set. With label smoothing the clusters are expected to be tight compared with the triangle of their centres "
        "(small s).",
        draw="nclens.figures.projections:projections",
        suits=("three_classes",),
    ),
    FigureEntry(
        stem="arcs",
        title="Two similar classes and a third",
        source="after a figure of arXiv 1906.02629",
        caption="Penultimate features of two similar classes and a third on the plane through their templates, "
        "training set above test set, with the arc ratio of the similar two about the mean of the third (+): 1 for "
        "round clusters, less for arcs. With label smoothing arcs are expected.",
        draw="nclens.figures.projections:arcs",
        needs=(ARCS,),
    ),
    FigureEntry(
        stem="specification_curve",
        title="The claims C1 to C4 by every way to measure them",
        source="our own, after the specification curves of Simonsohn, Simmons and Nelson (2020)",
        caption="A panel a claim and pair of losses. Top: the effect by each specification with its 95% interval over "
        "seeds, sorted; filled where the interval excludes no effect, the horizontal line. Bottom: what each "
        "specification chose. The diamond and the column through both are the claim's own. A claim that depends on how "
        "it is measured has points on both sides of the line.",
        draw="nclens.figures.specification_curve:specification_curve",
        needs=(SMOOTHING,),
        suits=("three_seeds",),
        table="nclens.claims.specifications:specifications",
    ),
    FigureEntry(
        stem="ufm_conditioning",
        title="Condition numbers of the unconstrained feature model",
        source="our own, for claims C5 and C6",
        caption="Condition number of the Hessian at the global minimiser, one row per definition, one marker per loss; "
        "log axis, left is better. Open markers: closed form; filled markers: eigenvalues at the numeric minimiser.",
        draw="nclens.figures.unconstrained_feature_model:ufm_conditioning",
        needs=(CLOSED_FORM,),
    ),
    FigureEntry(
        stem="ufm_dynamics",
        title="Which condition number explains the speed of gradient descent in the unconstrained feature model",
        source="our own, for claim C6",
        caption="Iterations relative to those without smoothing, for steps of the same fraction of 1/L (row 1) and of "
        "the same size (row 2), near the minimiser (discs) and from the start (diamonds); each line is the prediction "
        "of one condition number for the discs. Row 3 rates the predictions: dark cells explain the speed at every "
        "smoothing, pale ones its direction only, the others neither; the number is the factor by which the worst "
        "prediction is off.",
        draw="nclens.figures.ufm_dynamics:ufm_dynamics",
        needs=(CLOSED_FORM,),
    ),
    FigureEntry(
        stem="smoothing_collapse",
        title="Collapse and norms against the smoothing",
        source=PAPER.format(6),
        caption="NC1 (log axis), NC2, NC3, test error and norms after training, against the smoothing δ. Lines: norms "
        "predicted by the unconstrained feature model.",
        draw="nclens.figures.smoothing_sweep:smoothing_collapse",
        suits=("sweep",),
    ),
    FigureEntry(
        stem="smoothing_calibration",
        title="Logit gap, confidence and calibration against the smoothing",
        source=PAPER.format(7),
        caption="Logit gap (log axis), confidence, optimal temperature, and ECE before and after temperature scaling, "
        "against the smoothing δ. Lines: predictions of the unconstrained feature model for the training set.",
        draw="nclens.figures.smoothing_sweep:smoothing_calibration",
        suits=("sweep",),
    ),
    FigureEntry(
        stem="theory_error",
        title="From the theory to the network",
        source=PAPER.format(10),
        caption="Relative error of classifier norm, feature norm and logit gap with respect to the closed form of the "
        "unconstrained feature model, and NC1, NC2 and NC3, whose predicted value is 0, of the training set, against "
        "epoch; log axes.",
        draw="nclens.figures.theory_to_network:theory_error",
        needs=("training.ufm_regularised",),
    ),
    FigureEntry(
        stem="smoothing_parts",
        title="The two parts of the smoothing penalty on correct and incorrect predictions",
        source="our own, after the decomposition of arXiv 2502.15798",
        caption="Test set, against epoch: the regularising part of label smoothing's penalty on correct and on "
        "incorrect predictions, its error-amplifying part, the gradient of each loss with respect to the top logit, "
        "and the confidence of incorrect predictions.",
        draw="nclens.figures.maxsup:smoothing_parts",
        suits=MAXSUP,
    ),
    FigureEntry(
        stem="class_spread",
        title="Spread of the features within classes and in total",
        source="our own, after the feature metrics of arXiv 2502.15798",
        caption="Spread of the features' directions within classes and in total after training, and the share of the "
        "total that lies between classes. Less spread within classes and a larger R²: more collapsed.",
        draw="nclens.figures.maxsup:class_spread",
        suits=MAXSUP,
    ),
    FigureEntry(
        stem="many_classes",
        title="More classes than a simplex has room for",
        source="our own, on generalised neural collapse (arXiv 2310.05351, 2303.06484)",
        caption="Training set, against epoch. With more classes than d + 1 no simplex exists: NC2 and the deviation "
        "from a simplex's angles cannot be 0. The one-vs-rest distance, of each class from the convex hull of all "
        "others, has an optimum there too; higher is more collapsed.",
        draw="nclens.figures.many_classes:many_classes",
        suits=("many_classes",),
    ),
    FigureEntry(
        stem="two_stage",
        title="Error and neural collapse before and after smoothing is dropped",
        source="our own, on two-stage label smoothing (arXiv 2006.11653) with our hyper-parameters",
        caption="Test error of every epoch and NC1 (log axes), NC2 and NC3 of the training set. From the dotted "
        "vertical line on, the loss of that colour is plain cross entropy.",
        draw="nclens.figures.two_stage:two_stage",
        needs=("schedule:drop",),
    ),
    FigureEntry(
        stem="drop_epoch",
        title="After training, by the epoch at which smoothing was dropped",
        source="our own, on two-stage label smoothing (arXiv 2006.11653) with our hyper-parameters",
        caption="Test error, and NC1, NC2 and NC3 of the training set after training: from cross entropy, which never "
        "smooths, to label smoothing, which is never dropped.",
        draw="nclens.figures.two_stage:drop_epoch",
        needs=("schedule:drop",),
    ),
    FigureEntry(
        stem="schedule_profile",
        title="Schedules of smoothing along four axes",
        source="our own, on a question that arXiv 1906.02629, 2006.11653 and 2502.15798 leave open",
        caption="After training, for each loss: test error, ECE, test error of students at each temperature, mean "
        "accuracy of linear probes on other data, and NC1 of the training set. Vertical lines: the baseline. A "
        "schedule is worth its while where it is better than constant smoothing along one axis and worse along none.",
        draw="nclens.figures.schedules:schedule_profile",
        suits=("schedules",),
    ),
    FigureEntry(
        stem="nrc_classification",
        title="Classification with squared error: neural collapse and neural regression collapse",
        source=OWN,
        caption="NC1, NC2 and NC3 (top) and NRC1, NRC2 and NRC3 of the one-hot targets (bottom) of the same networks "
        "against epoch; log axes. For one-hot targets of balanced classes NRC3 compares W W' with the same simplex as "
        "neural collapse does.",
        draw="nclens.figures.neural_regression_collapse:nrc_classification",
        needs=("loss:mse",),
    ),
    FigureEntry(
        stem="distillation",
        title="Students of cross entropy and of label smoothing",
        source="after arXiv 1906.02629",
        caption="A student is a smaller network that learns the probabilities of a trained one, its teacher, in place "
        "of labels. Left: smoothing makes better teachers where the students' error falls with the teacher's δ; where "
        "it is above that of the same network trained alone, labels teach more. Right: a temperature above 1 softens "
        "the teacher's probabilities; below the horizontal lines a student has learned more from its teacher than from "
        "labels.",
        draw="nclens.figures.distillation:distillation",
        needs=("loss:distillation",),
    ),
    FigureEntry(
        stem="probe_accuracy",
        title="Transfer of the frozen features",
        source="our own, after the transfer table of arXiv 2502.15798",
        caption="Accuracy on the network's own test set, and of a linear classifier on its frozen features on another "
        "data set.",
        draw="nclens.figures.when_does_it_help:probe_accuracy",
        needs=("probe:transfer",),
    ),
    FigureEntry(
        stem="segmentation",
        title="Segmentation on the feature map",
        source="our own, after the table of dense prediction of arXiv 2502.15798",
        caption="mIoU and pixel accuracy of a small segmentation head on each network's feature map, on the test split "
        "of another data set. Hollow: the same head on a random network, the floor, and on a random network that was "
        "trained with it, the ceiling.",
        draw="nclens.figures.maxsup:segmentation",
        needs=("probe:segmentation",),
    ),
    FigureEntry(
        stem="out_of_distribution",
        title="Out-of-distribution detection",
        source="our own, with the scores of arXiv 2310.06823 and arXiv 2311.01479 among others",
        caption="How well seven scores of the trained networks tell other data from their own. AUROC: higher is "
        "better; FPR95, the share of other data that pass where 95% of their own do: lower is better.",
        draw="nclens.figures.out_of_distribution:out_of_distribution",
        needs=("probe:out_of_distribution",),
    ),
    FigureEntry(
        stem="detection_against_collapse",
        title="Detection against collapse",
        source="our own, on the relation of arXiv 2502.10691 over layers",
        caption="AUROC of two scores against NC1 of the training set (log axis), a mark a run. Where a loss that "
        "collapses further detects better, the marks rise to the left.",
        draw="nclens.figures.out_of_distribution:detection_against_collapse",
        needs=("probe:out_of_distribution",),
    ),
    FigureEntry(
        stem="layers",
        title="Collapse by layer",
        source="our own, on the law of equi-separation (arXiv 2210.17020)",
        caption="Against depth, a column a snapshot: NC1 (log axis), accuracy of the nearest class mean, deviation "
        "from the simplex's angles, and stable rank of the features after each block, on the training set (solid) and "
        "on the test set (dashed). By the law of equi-separation the line of NC1 is straight.",
        draw="nclens.figures.layers:layers",
        needs=("probe:layers",),
    ),
    FigureEntry(
        stem="decoding",
        title="Decoding and calibration of sequences",
        source="after a figure of arXiv 1906.02629, with panels of our own",
        caption="Token error rate, of text BLEU, of the best hypothesis of beam search against the beam's width, at "
        "temperature 1, and against the temperature that divides the logits; ECE (15 bins) and cross entropy of the "
        "next token, given the correct earlier ones, against the temperature. Test set, last epoch; log axes.",
        draw="nclens.figures.decoding:decoding",
        needs=("probe:decoding",),
    ),
    FigureEntry(
        stem="sharpness",
        title="Sharpness, calibration and collapse",
        source="our own, on the claim of arXiv 2604.20614",
        caption="Top: largest eigenvalue of the Hessian of plain cross entropy, in the head's weights and in all "
        "weights, and of the trained loss, against epoch; log axes. Bottom: ECE of the test set and NC1 of the "
        "training set against sharpness along training. Where calibration tracks sharpness, the losses share one line.",
        draw="nclens.figures.sharpness:sharpness",
        needs=("probe:sharpness",),
    ),
    FigureEntry(
        stem="gradient_variance",
        title="Gradient variance of one-hot and smoothed targets",
        source="our own, on the claim of arXiv 2006.11653",
        caption="Variance over samples of the gradient at the weights of each epoch, for one-hot (solid) and smoothed "
        "(dashed) targets. According to the claim the dashed line of a loss is below its solid one.",
        draw="nclens.figures.when_does_it_help:gradient_variance",
        needs=("probe:gradient_variance",),
    ),
    FigureEntry(
        stem="mutual_information",
        title="Information about the single input",
        source="after a figure of arXiv 1906.02629",
        caption="Estimated mutual information between the input and the difference of two classes' logits, under "
        "random augmentation. At log 2 the difference determines the class and nothing else.",
        draw="nclens.figures.when_does_it_help:mutual_information",
        needs=("probe:mutual_information",),
    ),
    FigureEntry(
        stem="class_size",
        title="Classes against their size",
        source=OWN,
        caption="Test accuracy, NC1 (log axis), classifier norm and mean cosine with the other classifiers of each "
        "class after training, against the number of its training samples, of sequences its tokens (log axis).",
        draw="nclens.figures.class_size:class_size",
        suits=(IMBALANCE,),
    ),
    FigureEntry(
        stem="nrc_curves",
        title="Neural regression collapse during training",
        source="after arXiv 2409.04180, with a layout of our own",
        caption="NRC1, NRC2 and NRC3 of the training set (0 is collapse), the share of the features' variance "
        "explained by as many principal components as there are targets, and the mean squared error of training and "
        "test set, against epoch; one column per weight decay, or, with the penalties of the unconstrained feature "
        "model, one panel each, with the distance of the residuals' covariance from c I.",
        draw="nclens.figures.neural_regression_collapse:nrc_curves",
        task="regression",
    ),
    FigureEntry(
        stem="nrc_layers",
        title="Neural regression collapse by layer",
        source="our own, on deep neural regression collapse (arXiv 2603.23805)",
        caption="Against depth, a column a snapshot: share of the features' variance outside as many principal "
        "directions as there are targets, linear CKA with the targets, error of the least-squares read-out (log axis), "
        "and stable rank of the features after each block, on the training set (solid) and on the test set (dashed).",
        draw="nclens.figures.layers:nrc_layers",
        task="regression",
        needs=("probe:layers",),
    ),
    FigureEntry(
        stem="nrc_gram",
        title="W W' of the last layer and its predicted form",
        source="after arXiv 2409.04180, with a layout of our own",
        caption="W W' of the last layer at the first and the last snapshot, and the form predicted from the covariance "
        "Σ of the training targets: Σ^(1/2) − γ^(1/2) I up to scale, with γ found once on the final weights, or, for "
        "training with the penalties of the unconstrained feature model, its closed form, scale included.",
        draw="nclens.figures.nrc_matrices:nrc_gram",
        task="regression",
    ),
    FigureEntry(
        stem="residuals",
        title="Residuals before and after training",
        source="after arXiv 2409.04180, with a layout of our own",
        caption="Residuals of the training samples at the first and the last snapshot of one seed, with the ellipse of "
        "one standard deviation. With the penalties of the unconstrained feature model the predicted covariance is c "
        "times the identity: a circle of radius √c.",
        draw="nclens.figures.nrc_residuals:residuals",
        task="regression",
    ),
)

FIGURES = {entry.stem: entry for entry in _ENTRIES}
"""Every figure by stem, in the order in which an experiment shows them."""
