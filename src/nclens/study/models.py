"""Model entries: which network is trained."""

import ast
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from nclens.study.fields import Closed, Custom, Flag, Integer, Keyword, Number, Positive, kind
from nclens.study.signatures import signature_of

#: Channels, units or features, and an end of what fits in a memory.
Width = Annotated[Integer, Field(ge=1, le=1_000_000)]


class Headed(Closed):
    """What the named networks share: their head."""

    #: Whether it takes `training.stochastic_depth`, as `drop_path_rate`.
    skips_blocks: ClassVar[bool] = False

    head: Literal["linear", "cosine"] = "linear"
    """`linear`: z = W h + b; `cosine`: z = s cos(w, h), so that features h / |h| and the weight s w / |w| are measured,
    and b = 0."""
    scale: Positive | None = None
    """s of a cosine head, the largest logit; by default 16."""

    @model_validator(mode="after")
    def _scales_a_cosine_head(self) -> Self:
        if self.scale is not None and self.head != "cosine":
            message = "scale = {scale}: is of a cosine head; add `head: cosine`, or leave it out"
            raise PydanticCustomError("scale", message, {"scale": f"{self.scale:g}"})
        if self.scale is None and self.head == "cosine":
            object.__setattr__(self, "scale", 16.0)
        return self

    @property
    def unused(self) -> set[str]:
        """The keys that say nothing of the network: a linear head is what every network has."""
        return {"head", "scale"} if self.head == "linear" else set()


class ResNet8(Headed):
    """A small ResNet: 3x3 stem, three stages of one basic block; the feature dimension d is 4 x width."""

    name: Literal["resnet8"]
    width: Width = 16
    """Channels of the first stage; the next two have twice and four times as many."""
    stem_stride: Annotated[Integer, Field(ge=1, le=4)] = 2
    """Stride of the first convolution, pixels."""
    signed_features: Flag = False
    """A batch normalisation after the pooling: features of both signs, as in the unconstrained feature model."""

    @property
    def dim(self) -> int:
        """Feature dimension d."""
        return 4 * self.width


class ResNet20(Headed):
    """The ResNet-20 of small images: `resnet8` with three basic blocks a stage; d is 4 x width."""

    name: Literal["resnet20"]
    width: Width = 16
    """Channels of the first stage; the next two have twice and four times as many."""
    stem_stride: Annotated[Integer, Field(ge=1, le=4)] = 1
    """Stride of the first convolution, pixels."""
    signed_features: Flag = False
    """A batch normalisation after the pooling: features of both signs, as in the unconstrained feature model."""

    @property
    def dim(self) -> int:
        """Feature dimension d."""
        return 4 * self.width


class PublishedResNet(Headed):
    """What the ResNets of torchvision share."""

    stem: Literal["paper", "imagenet"] = "paper"
    """`paper`: first convolution 3x3 with stride 1 and no max-pooling, for small images; `imagenet`: 7x7 with stride 2
    and max-pooling."""
    signed_features: Flag = False
    """A batch normalisation after the pooling: features of both signs, as in the unconstrained feature model."""


class ResNet18(PublishedResNet):
    """torchvision's ResNet-18; the feature dimension d is 512."""

    name: Literal["resnet18"]

    @property
    def dim(self) -> int:
        """Feature dimension d."""
        return 512


class ResNet34(PublishedResNet):
    """torchvision's ResNet-34; the feature dimension d is 512."""

    name: Literal["resnet34"]

    @property
    def dim(self) -> int:
        """Feature dimension d."""
        return 512


class ResNet50(PublishedResNet):
    """torchvision's ResNet-50; the feature dimension d is 2048."""

    name: Literal["resnet50"]

    @property
    def dim(self) -> int:
        """Feature dimension d."""
        return 2048


class VGG(Headed):
    """A VGG with batch normalisation and global average pooling; the feature dimension d is 8 x width."""

    name: Literal["vgg"]
    depth: Literal[11, 13, 16] = 11
    """Layers with weights, the original's two hidden linear layers counted, which global pooling replaces here."""
    width: Width = 64
    """Channels of the first group of convolutions; the next ones have 2, 4, 8 and 8 times as many."""
    signed_features: Flag = False
    """A batch normalisation after the pooling: features of both signs, as in the unconstrained feature model."""

    @property
    def dim(self) -> int:
        """Feature dimension d."""
        return 8 * self.width


class MLP(Headed):
    """A multilayer perceptron with ReLUs; the feature dimension d is the last width."""

    name: Literal["mlp"]
    widths: tuple[Width, ...] = Field(default=(256, 256, 256), min_length=1, max_length=1000)
    """Units of each hidden layer."""
    signed_features: Flag = False
    """No ReLU before the head: features of both signs, as in the unconstrained feature model."""

    @property
    def dim(self) -> int:
        """Feature dimension d."""
        return self.widths[-1]


class Transformer(Headed):
    """An encoder-decoder Transformer for sequences; the feature dimension d is the width."""

    name: Literal["transformer"]
    width: Annotated[Integer, Field(ge=2, le=1_000_000)] = 96
    """Width of all layers, a multiple of `heads`: d."""
    encoder_layers: Annotated[Integer, Field(ge=1, le=1000)] = 1
    """Layers of the encoder."""
    decoder_layers: Annotated[Integer, Field(ge=1, le=1000)] = 1
    """Layers of the decoder."""
    heads: Annotated[Integer, Field(ge=1, le=1000)] = 4
    """Attention heads of each layer."""
    hidden: Width | None = None
    """Units of the feed-forward parts; null for 4 x width."""
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    """Share of hidden values and attention weights that is dropped in training."""
    tied: Flag = False
    """The head's weight is the embedding of the target tokens too."""

    @property
    def dim(self) -> int:
        """Feature dimension d."""
        return self.width

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            message = "width = {width}: must be a multiple of heads = {heads}"
            raise PydanticCustomError("width", message, {"width": self.width, "heads": self.heads})
        if self.head == "cosine":
            raise PydanticCustomError("head", "head = cosine: a transformer has a linear head; leave it out")
        return self


def _ours_alone(parameters: dict[str, Any]) -> dict[str, Any]:
    """Refuse what is not the user's to say: K comes from the data, and weights are random."""
    reasons = {
        "num_classes": "the number of classes comes from the data",
        "in_chans": "the number of channels comes from the data",
        "weights": "networks start from random weights",
        "pretrained": "networks start from random weights",
        "checkpoint_path": "networks start from random weights",
    }
    for key, reason in reasons.items():
        if key in parameters:
            raise PydanticCustomError("parameters", "must not hold `{key}`: {reason}", {"key": key, "reason": reason})
    return parameters


class TorchvisionModel(Headed):
    """Any classifier of torchvision for images of three channels whose last linear layer is its head."""

    name: Literal["torchvision"]
    builder: Keyword
    """The classifier's name in torchvision, such as `densenet121`."""
    parameters: Annotated[dict[Keyword, Any], AfterValidator(_ours_alone)] = Field(default_factory=dict)
    """Further keyword arguments of the builder."""
    dim: Width | None = None
    """Feature dimension d, for the theory; without it the theory uses K, from which on d makes no difference."""


class TimmModel(Headed):
    """Any classifier of timm for images whose last linear layer is its head; the package is installed apart."""

    skips_blocks = True

    name: Literal["timm"]
    builder: Keyword
    """The classifier's name in timm, such as `resnet10t`."""
    parameters: Annotated[dict[Keyword, Any], AfterValidator(_ours_alone)] = Field(default_factory=dict)
    """Further keyword arguments of `timm.create_model`."""
    dim: Width | None = None
    """Feature dimension d, for the theory; without it the theory uses K, from which on d makes no difference."""


class CustomModel(Custom):
    """A network that the user's function builds."""

    given: ClassVar[tuple[str, ...]] = ("shape", "outputs")

    dim: Width | None = None
    """Feature dimension d, for the theory; without it the theory uses K, from which on d makes no difference."""

    @property
    def skips_blocks(self) -> bool:
        """Whether the function may be called with a `drop_path_rate`."""
        tree = ast.parse(Path(str(self.file)).read_text(encoding="utf-8"))
        signature = signature_of(tree, self.function.split(":")[1])
        parameters = signature.parameters if signature else {}
        named = "drop_path_rate" in parameters
        return signature is None or named or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


MODEL_KINDS: dict[str, type[Closed]] = {
    "resnet8": ResNet8,
    "resnet20": ResNet20,
    "resnet18": ResNet18,
    "resnet34": ResNet34,
    "resnet50": ResNet50,
    "vgg": VGG,
    "mlp": MLP,
    "transformer": Transformer,
    "torchvision": TorchvisionModel,
    "timm": TimmModel,
}

ModelEntry = kind("name", MODEL_KINDS, CustomModel)
