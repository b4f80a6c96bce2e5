"""Networks: a backbone that returns features, and a linear head that returns logits.

Each builder is registered under the name that the configuration uses; its keyword arguments are the entry's keys. A
builder takes the shape of an input and the number of outputs, and returns the network.
"""

from nclens.models.blocks import block, layers_of
from nclens.models.cosine import CosineHead, with_cosine_head
from nclens.models.cost import count_flops
from nclens.models.dense import mlp
from nclens.models.encoder_decoder import Vocabulary, transformer
from nclens.models.feature_map import FeatureMap
from nclens.models.head import check_affine, find_head, split_at_head
from nclens.models.network import MODELS, Network, place_network, register
from nclens.models.small import resnet8, resnet20, vgg
from nclens.models.zoo import resnet18, resnet34, resnet50, timm, torchvision

__all__ = [
    "MODELS",
    "CosineHead",
    "FeatureMap",
    "Network",
    "Vocabulary",
    "block",
    "check_affine",
    "count_flops",
    "find_head",
    "layers_of",
    "mlp",
    "place_network",
    "register",
    "resnet8",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "split_at_head",
    "timm",
    "torchvision",
    "transformer",
    "vgg",
    "with_cosine_head",
]
