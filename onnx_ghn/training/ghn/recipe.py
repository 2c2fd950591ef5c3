"""The trainer of a GHN, made from its settings."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch

from onnx_ghn.errors import OptionError
from onnx_ghn.ghn import GHN, GHNConfig, load_ghn, new_ghn
from onnx_ghn.settings import values
from onnx_ghn.training.ghn.architectures import ArchitectureStream
from onnx_ghn.training.ghn.settings import GHNSettings, GHNShape, GHNTraining, NetLimits
from onnx_ghn.training.ghn.trainer import GHNTrainer, TrainConfig
from onnx_ghn.training.group import Group
from onnx_ghn.vision import load_dataset, train_stream

__all__ = ["ghn_trainer"]

#: Settings that a GHN to start from has already, and the fields of its config that hold them.
_SHAPE = {name: name for name in (*GHNShape.__dataclass_fields__, "max_shape")}
_SHAPE |= {"ln": "layernorm", "virtual_edges": "ve"}
_CUTOFF = 50  # published for virtual edges


def ghn_trainer(
    settings: GHNSettings, folder: Path, device: torch.device | str, group: Group, given: Collection[str] = ()
) -> GHNTrainer:
    """Read the images and make the trainer.

    Args:
        folder: of the checkpoint and the log; the GHN has its name.
        device: to train on.
        group: of processes.
        given: names of settings that must not be contradicted by the GHN to start from.

    Raises:
        OnnxGhnError: images or a GHN that cannot be read, or settings that make no sense.
    """
    data = load_dataset(settings.dataset, settings.data_dir, "train", download=settings.download)
    images = train_stream(
        data, settings.batch_size, seed=settings.seed, resize_to=settings.image_size, channels_last=True
    )
    nets = ArchitectureStream(
        settings.split,
        len(data.classes),
        settings.seed,
        NetLimits(**values(settings, NetLimits) | {"any_size": settings.image_size is not None}),
        large_images=settings.dataset == "imagenet",
        image_size=settings.image_size or 32,
    )
    ghn = _ghn(settings, _ghn_config(settings, len(data.classes), folder.name), given).to(device)
    return GHNTrainer(ghn, nets, images, _train_config(settings, images.steps_per_epoch), folder, group)


def _ghn(settings: GHNSettings, config: GHNConfig, given: Collection[str]) -> GHN:
    if not settings.ckpt:
        return new_ghn(config, seed=settings.seed)
    ghn = load_ghn(settings.ckpt)
    for setting, field in _SHAPE.items():
        own, asked = (getattr(each, field) for each in (ghn.config, config))
        if setting == "max_shape":  # that of kernels goes with the data set
            own, asked = own[0], asked[0]
        if setting in given and own != asked:
            raise OptionError(f"`{setting}`: {settings.ckpt} has {field} {own}, not {asked}; leave it out, or `ckpt`")
    return ghn


def _ghn_config(settings: GHNSettings, num_classes: int, name: str) -> GHNConfig:
    is_graphormer = settings.hypernet == "graphormer"
    side = 16 if settings.dataset == "imagenet" else 11
    own = {
        "max_shape": (settings.max_shape, settings.max_shape, side, side),
        "num_classes": num_classes,
        "weight_norm": settings.weight_norm or is_graphormer,
        "ve": settings.virtual_edges > 1 or is_graphormer,
        "ve_cutoff": settings.virtual_edges if settings.virtual_edges > 1 else _CUTOFF,
        "layernorm": settings.ln or is_graphormer,
        "kernel_slice": "centre" if is_graphormer else "corner",
        "kernel_overflow": "interpolate" if is_graphormer else "tile",
        "name": name,
        "dataset": settings.dataset,
    }
    return GHNConfig(**values(settings, GHNShape) | own)


def _train_config(settings: GHNSettings, steps_per_epoch: int) -> TrainConfig:
    epochs = [epoch for epoch in settings.lr_steps.split(",") if epoch]
    if not all(epoch.strip().isdigit() for epoch in epochs):
        raise OptionError(f"`lr_steps` {settings.lr_steps}: write epochs, as 200,250")
    return TrainConfig(
        **values(settings, GHNTraining),
        steps=settings.steps or settings.epochs * steps_per_epoch,
        lr_steps=tuple(int(epoch) * steps_per_epoch for epoch in epochs),
    )
