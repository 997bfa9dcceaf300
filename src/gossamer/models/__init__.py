"""Reference networks and the table of their names."""

from gossamer.models.bc_resnet import bc_resnet
from gossamer.models.convnet import image_cnn, speech_cnn
from gossamer.models.depthwise import ds_cnn, mobilenet
from gossamer.models.mlp import mlp
from gossamer.models.reference import MODELS, Reference, reference
from gossamer.models.resnet import resnet
from gossamer.models.tc_resnet import tc_resnet
from gossamer.models.transformer import bert, vit

__all__ = [
    "MODELS",
    "Reference",
    "bc_resnet",
    "bert",
    "ds_cnn",
    "image_cnn",
    "mlp",
    "mobilenet",
    "reference",
    "resnet",
    "speech_cnn",
    "tc_resnet",
    "vit",
]
__dir__ = __all__.copy
