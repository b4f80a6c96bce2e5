"""Model entries: which network is trained."""

from typing import Annotated, Literal

from pydantic import Field

from nclens.config.fields import Closed, Count, Custom, Flag, Integer, kind


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
