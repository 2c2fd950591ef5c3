"""Image data sets, the published augmentations, and torchvision's networks for small images.

images = load_dataset("cifar10", "data", "train", download=True)
for images, labels in train_stream(images, batch_size=64):
    ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.vision.adjust import adjust_to_small_images
    from onnx_ghn.vision.arrays import eval_arrays
    from onnx_ghn.vision.batches import eval_batches, train_stream
    from onnx_ghn.vision.cache import default_cache_dir
    from onnx_ghn.vision.large import FileStream
    from onnx_ghn.vision.loading import Split, fetch_dataset, load_dataset
    from onnx_ghn.vision.sets import CIFAR_NORM, IMAGENET_NORM, ImageFiles, ImageSet, Normalisation, few_shot
    from onnx_ghn.vision.small import BatchStream
    from onnx_ghn.vision.streams import Batch

_HOMES = {
    "CIFAR_NORM": "sets",
    "IMAGENET_NORM": "sets",
    "Batch": "streams",
    "BatchStream": "small",
    "FileStream": "large",
    "ImageFiles": "sets",
    "ImageSet": "sets",
    "Normalisation": "sets",
    "Split": "loading",
    "adjust_to_small_images": "adjust",
    "default_cache_dir": "cache",
    "eval_arrays": "arrays",
    "eval_batches": "batches",
    "fetch_dataset": "loading",
    "few_shot": "sets",
    "load_dataset": "loading",
    "train_stream": "batches",
}

__all__ = [
    "CIFAR_NORM",
    "IMAGENET_NORM",
    "Batch",
    "BatchStream",
    "FileStream",
    "ImageFiles",
    "ImageSet",
    "Normalisation",
    "Split",
    "adjust_to_small_images",
    "default_cache_dir",
    "eval_arrays",
    "eval_batches",
    "fetch_dataset",
    "few_shot",
    "load_dataset",
    "train_stream",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
