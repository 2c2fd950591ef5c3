"""What is judged and on which images, as `onnx-ghn eval` asks for it. No torch."""

from __future__ import annotations

import dataclasses
from typing import Literal

from onnx_ghn.settings import Settings, setting
from onnx_ghn.training.nets.settings import NETWORK_SPLITS, Width
from onnx_ghn.training.settings import ImageData

__all__ = ["Images", "ModelConfig", "Networks"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images(ImageData):
    """The images that networks are judged on."""

    images: Literal["val", "test"] = setting("test", "Images to judge on.")
    batch_size: int = setting(
        64, "Images of a batch, whose statistics the batch norms use.", "-b", least=1
    )  # as published
    image_size: int | None = setting(None, "Scale images to this size.", least=1)
    n_images: int | None = setting(None, "Number of images to judge on, instead of all.", least=1)
    noise: bool = setting(False, "Judge on images with Gaussian noise, too.")

    @property
    def large(self) -> bool:
        """Networks are made for 224 × 224 images rather than for 32 × 32."""
        return self.dataset == "imagenet"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Networks(Settings):
    """Which networks are judged, and with which weights."""

    init: Literal["ghn", "kaiming"] = setting("ghn", "Weights of the networks.")
    split: str = setting("test", "Split of DeepNets-1M.", choices=NETWORK_SPLITS)
    arch: str | None = setting(
        None, "One network: an index of the split, ResNet-50, ViT, DARTS, PDARTS, or a torchvision name."
    )
    file: str | None = setting(None, "DeepNets-1M architectures (.hdf5 or .jsonl); without one they are sampled.")
    count: int | None = setting(None, "Number of networks of the split.", aliases=["-n"], least=1)
    width: Width = setting("split", "Widths of the split (32; wide: 128), or drawn by the published training rule.")
    amp: bool = setting(False, "Run the networks in bfloat16.")  # those of DeepNets-1M
    seed: int = setting(1111, "Seed of sampled networks.", "-s", least=0)  # and of random weights
    first_class: int = setting(
        0, "The class of the GHN that is the data set's first, where it was trained on several (--also).", least=0
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """How an ONNX file is run."""

    statistics: Literal["stored", "batch"] | None = setting(
        None, "Statistics that the batch norms of --model use: stored by default."
    )
    backend: Literal["onnxruntime", "torch"] = setting("onnxruntime", "What runs --model.", shown=False)
