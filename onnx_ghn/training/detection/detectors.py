"""torchvision's detectors on the features of a classifier: of torchvision, or of DeepNets-1M.

The form is the published one (facebookresearch/ppuda, experiments/sgd/detector/train_detector.py): Faster R-CNN on the
last feature map alone, anchors of five sizes and three ratios, 7 × 7 pooled regions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.deepnets1m.network import Network
from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.training.nets.networks import Choice

__all__ = ["ANCHORS", "REGIONS", "Features", "make_detector"]

ANCHORS = (32, 64, 128, 256, 512)  # sides in pixels of the scaled image
REGIONS = 512  # torchvision's default
_RATIOS = (0.5, 1.0, 2.0)
_N_CLASSES = 2  # ground and person
_POOLED, _POOLED_MASK, _SAMPLES = 7, 14, 2


class Features(nn.Module):
    """(B, 3, H, W) -> (B, out_channels, h, w): a classifier without its pooling and what follows.

    Args:
        net: a classifier with the weights to start from.
        choice: what it is.
        side: of images to try it on.

    Raises:
        OptionError: it gives no feature map.
    """

    def __init__(self, net: nn.Module, choice: Choice, side: int = 64) -> None:
        super().__init__()
        if isinstance(choice.net, Architecture):
            if choice.net.genotype.is_vit:
                raise OptionError(f"`arch` {choice.name}: its position table takes images of one size; choose another")
            assert isinstance(net, Network)
            net.classifier = nn.Sequential()
            self.body: nn.Module = _Cells(net)
        else:
            parts = list(net.named_children())
            ends = [i for i, (_, part) in enumerate(parts) if _is_head(part)]
            # torchvision's convolutional networks call their children in order, up to the pooling.
            self.body = nn.Sequential()
            for name, part in parts[: ends[0] if ends else len(parts)]:
                self.body.add_module(name, part)
        was_training = self.body.training
        try:
            with torch.no_grad():
                features = self.body.eval()(torch.zeros(1, 3, side, side))
        except (AssertionError, RuntimeError, ValueError, NotImplementedError, GraphError) as error:
            raise OptionError(f"`arch` {choice.name}: no feature map can be had of it ({_short(error)})") from error
        finally:
            self.body.train(was_training)
        if features.dim() != 4 or features.shape[2] < 2:
            raise OptionError(f"`arch` {choice.name}: its features are {tuple(features.shape)}, no map; choose another")
        self.out_channels = int(features.shape[1])

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images)
        return features


class _Cells(nn.Module):
    """The cells of a DeepNets-1M network."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net.features(images)


def _is_head(part: nn.Module) -> bool:
    """Pooling to one pixel, or a classifier. (An Identity stands for the pooling of stems for small images.)"""
    return isinstance(part, nn.AdaptiveAvgPool2d | nn.Linear) or (
        isinstance(part, nn.Sequential) and any(isinstance(layer, nn.Linear) for layer in part.children())
    )


def make_detector(
    features: Features,
    kind: str = "faster",
    *,
    min_size: int = 800,
    max_size: int = 1333,
    anchors: tuple[int, ...] = ANCHORS,
    regions: int = REGIONS,
) -> nn.Module:
    """A detector of persons.

    Args:
        kind: faster (boxes) or mask (masks too).
        min_size, max_size: images are scaled so that their shorter side is the first, but their longer no more than
            the second.
        anchors: sides of the boxes that proposals begin from.
        regions: proposals of an image that the head learns from at each step.
    """
    common: dict[str, Any] = {
        "num_classes": _N_CLASSES,
        "min_size": min_size,
        "max_size": max_size,
        "rpn_anchor_generator": AnchorGenerator((tuple(anchors),), (_RATIOS,)),
        "box_batch_size_per_image": regions,
        "box_roi_pool": MultiScaleRoIAlign(["0"], _POOLED, _SAMPLES),
    }
    if kind == "mask":
        pool = MultiScaleRoIAlign(["0"], _POOLED_MASK, _SAMPLES)
        with_masks: nn.Module = MaskRCNN(features, mask_roi_pool=pool, **common)
        return with_masks
    boxes_alone: nn.Module = FasterRCNN(features, **common)
    return boxes_alone


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
