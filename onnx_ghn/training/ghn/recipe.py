"""The trainer of a GHN, made from its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from itertools import accumulate
from pathlib import Path

import torch

from onnx_ghn.errors import OptionError
from onnx_ghn.ghn import GHN, GHNConfig, load_ghn, new_ghn
from onnx_ghn.ghn.further_classes import with_classes
from onnx_ghn.settings import values
from onnx_ghn.training.ghn.architectures import ArchitectureStream
from onnx_ghn.training.ghn.settings import GHNSettings, GHNShape, GHNTraining, NetLimits
from onnx_ghn.training.ghn.tasks import Task
from onnx_ghn.training.ghn.trainer import GHNTrainer, TrainConfig
from onnx_ghn.training.group import Group
from onnx_ghn.vision import load_dataset, train_stream

__all__ = ["ghn_trainer"]

#: Settings that a GHN to start from has already, and the fields of its config that hold them.
_SHAPE = {name: name for name in (*GHNShape.__dataclass_fields__, "max_shape")}
_SHAPE |= {"ln": "layernorm", "virtual_edges": "ve"}
_CUTOFF = 50  # published for virtual edges
#: Settings beside those of `NetLimits` by which images and networks are drawn. Where images lie may change.
_DRAWN = ("split", "batch_size", "image_size")


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
    sets = [load_dataset(settings.dataset, settings.data_dir, "train", download=settings.download)]
    sets += [load_dataset(path, settings.data_dir, "train") for path in settings.also]
    streams = [
        train_stream(data, settings.batch_size, seed=settings.seed, resize_to=settings.image_size, channels_last=True)
        for data in sets
    ]
    # Each data set's classes follow those of the ones before it, so that the GHN has rows for every one of them.
    counts = [len(data.classes) for data in sets]
    tasks = [
        Task(_nets(settings, first, n_classes), images)
        for first, n_classes, images in zip(accumulate([0, *counts]), counts, streams, strict=False)
    ]
    ghn = _ghn(settings, _ghn_config(settings, counts, folder.name, [data.name for data in sets]), given).to(device)
    _check_used(settings, ghn, given)
    config = _train_config(settings, streams[0].steps_per_epoch)
    drawn = values(settings, NetLimits) | {name: getattr(settings, name) for name in _DRAWN}
    drawn["images"] = [len(data) for data in sets]
    return GHNTrainer(ghn, tasks[0].nets, streams[0], config, folder, group, further=tasks[1:], data=drawn)


def _nets(settings: GHNSettings, first_class: int, n_classes: int) -> ArchitectureStream:
    return ArchitectureStream(
        settings.split,
        n_classes,
        settings.seed,
        NetLimits(**values(settings, NetLimits) | {"any_size": settings.image_size is not None}),
        large_images=settings.dataset == "imagenet",
        image_size=settings.image_size or 32,
        first_class=first_class,
    )


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
    if config.num_classes > ghn.config.num_classes:  # else two classes would share a row, which never parts them
        ghn = with_classes(ghn, config.num_classes, settings.seed)
    first = config.first_classes or (config.num_classes if config.num_classes < ghn.config.num_classes else 0)
    ghn.config = dataclasses.replace(ghn.config, name=config.name, dataset=config.dataset, first_classes=first)
    return ghn


def _check_used(settings: GHNSettings, ghn: GHN, given: Collection[str]) -> None:
    """Refuse settings that were given and would be left out. Raises OptionError."""
    used = {
        "also_share": (bool(settings.also), "of the data sets of `also`; name one"),
        "lr_steps": (settings.scheduler == "step", "of `scheduler` step; choose it"),
        "gamma": (settings.scheduler == "step", "of `scheduler` step; choose it"),
        "layers": (ghn.config.hypernet == "graphormer", "of `hypernet` graphormer; choose it"),
        "heads": (ghn.config.hypernet == "graphormer", "of `hypernet` graphormer; choose it"),
        "epochs": (settings.steps is None, "`steps` counts instead of them; choose one of both"),
    }
    for name, (is_used, told) in used.items():
        if name in given and not is_used:
            raise OptionError(f"`{name}`: {told}, or leave this out")


def _ghn_config(settings: GHNSettings, counts: Sequence[int], name: str, sets: Sequence[str]) -> GHNConfig:
    is_graphormer = settings.hypernet == "graphormer"
    side = 16 if settings.dataset == "imagenet" else 11
    own = {
        "max_shape": (settings.max_shape, settings.max_shape, side, side),
        "num_classes": sum(counts),
        "first_classes": counts[0] if len(counts) > 1 else 0,
        "weight_norm": settings.weight_norm or is_graphormer,
        "ve": settings.virtual_edges > 1 or is_graphormer,
        "ve_cutoff": settings.virtual_edges if settings.virtual_edges > 1 else _CUTOFF,
        "layernorm": settings.ln or is_graphormer,
        "kernel_slice": "centre" if is_graphormer else "corner",
        "kernel_overflow": "interpolate" if is_graphormer else "tile",
        "name": name,
        "dataset": ", ".join(sets),  # their names, not the places where they lie here
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
