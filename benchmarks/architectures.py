"""Architectures of torchvision and timm with random weights, as ONNX files for ``networks.py``.

    python benchmarks/architectures.py PACKAGES FOLDER

PACKAGES/torchvision, PACKAGES/pillow and PACKAGES/timm are where that benchmark installed them.
Random weights that carry activations through a network, neither vanishing nor exploding, cost the
same time as trained ones.
"""

from __future__ import annotations

import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

LIBRARIES = {
    "torchvision": (
        *("efficientnet_b0", "convnext_tiny", "mobilenet_v3_large", "densenet121", "vit_b_16"),
        *("resnet18", "regnet_y_400mf", "shufflenet_v2_x1_0", "squeezenet1_1"),
    ),
    "timm": (
        *("convnextv2_atto", "edgenext_xx_small", "efficientvit_b0", "ghostnet_100"),
        *("levit_128s", "mixer_s32_224", "mobilenetv4_conv_small", "mobilevit_xs"),
        *("poolformer_s12", "repvgg_a0", "resnet50d", "swin_tiny_patch4_window7_224"),
        *("tf_efficientnetv2_b0", "xcit_nano_12_p16_224"),
    ),
}
SHAPE = (1, 3, 224, 224)  # of torchvision's images; timm's have sizes of their own
BATCH = 8  # images of noise that batch norms are set on


@cache
def torchvision_models(packages: Path) -> Any:
    """``torchvision.models``, without the compiled operators.

    These are for one build of torch. The models need none of them, but the import needs the
    signatures of two.
    """
    sys.path += [str(packages / "torchvision"), str(packages / "pillow")]
    boxes = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + boxes)
    import torchvision.models

    return torchvision.models


def randomize(network: nn.Module, image: torch.Size | tuple[int, ...], seed: int = 0) -> None:
    """Random weights, and batch norms with the statistics of noise, in place.

    Initial weights would be no test: whole layers of zeros (heads), scales of 1e-6 (ConvNeXt), and
    norms that do nothing.
    """
    torch.manual_seed(seed)
    network.eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1 and "layer_scale" not in name:
                nn.init.kaiming_normal_(parameter)
            elif name.endswith("bias"):
                nn.init.normal_(parameter, std=0.2)
            else:
                nn.init.uniform_(parameter, 0.5, 1.5)
        norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.momentum = None  # the statistics are those of this batch alone
            norm.reset_running_stats()
            norm.train()
        network(torch.randn(BATCH, *image[1:]))
        network.eval()


def create(library: str, packages: Path, name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """An architecture of a library and the shape of its image, with its initial weights."""
    models = torchvision_models(packages)  # timm imports it, too
    if library == "torchvision":
        return models.get_model(name, weights=None), SHAPE
    sys.path.append(str(packages / "timm"))
    import timm

    network = timm.create_model(name)
    return network, (1, *network.default_cfg["input_size"])


def export(packages: Path, folder: Path) -> None:
    """Write ``LIBRARY/NAME.onnx`` of every architecture into a folder that has none of it yet."""
    for library, names in LIBRARIES.items():
        (folder / library).mkdir(parents=True, exist_ok=True)
        for name in names:
            file = folder / library / f"{name}.onnx"
            if file.exists():
                continue
            network, shape = create(library, packages, name)
            randomize(network, shape)
            partial = file.with_suffix(".partial")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    network, (torch.randn(shape),), partial, dynamo=True, external_data=False
                )
            partial.rename(file)


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
