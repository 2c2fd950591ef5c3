"""Image data sets, the published augmentations, and torchvision's networks for small images.

images = load_dataset("cifar10", "data", "train", download=True)
for images, labels in train_stream(images, batch_size=64):
    ...
"""

from onnx_ghn.vision.adjust import adjust_to_small_images
from onnx_ghn.vision.batches import eval_batches, train_stream
from onnx_ghn.vision.cache import default_cache_dir
from onnx_ghn.vision.large import FileStream
from onnx_ghn.vision.loading import Split, load_dataset
from onnx_ghn.vision.sets import CIFAR_NORM, IMAGENET_NORM, ImageFiles, ImageSet, Normalisation, few_shot
from onnx_ghn.vision.small import BatchStream
from onnx_ghn.vision.streams import Batch

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
    "eval_batches",
    "few_shot",
    "load_dataset",
    "train_stream",
]
