"""All that a training run of a GHN is made from, as `onnx-ghn train` asks for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

import torch

from onnx_ghn.errors import OptionError
from onnx_ghn.ghn import GHN, GHNConfig, load_ghn, new_ghn
from onnx_ghn.ghn.config import DecoderKind, Hypernet
from onnx_ghn.training.ghn.architectures import ArchitectureStream, NetLimits
from onnx_ghn.training.ghn.trainer import GHNTrainer, TrainConfig
from onnx_ghn.training.group import Group
from onnx_ghn.vision import BatchStream, FileStream, load_dataset, train_stream

__all__ = ["GHNRecipe"]

#: Settings that a GHN to start from has already, and the fields of its config that hold them.
_SHAPE = {name: name for name in ("hypernet", "decoder", "weight_norm", "hid", "heads", "layers", "max_shape")}
_SHAPE |= {"dirac": "dirac", "pooled_flatten": "pooled_flatten", "ln": "layernorm", "virtual_edges": "ve"}
_CUTOFF = 50  # published for virtual edges


@dataclasses.dataclass(frozen=True, kw_only=True)
class GHNRecipe:
    """The data, the GHN and the way to train it; its fields are the options of the command."""

    # Images.
    dataset: str  # cifar10, imagenet, or a folder or zip archive
    data_dir: str
    batch_size: int | None  # None: 64, for imagenet 256
    image_size: int | None  # scale images to this size
    # Networks to train on, see `NetLimits`.
    split: str
    max_cells: int
    max_params: int
    channels: int | None
    transformers: float
    families: float
    # The GHN, see `GHNConfig`.
    name: str
    ckpt: str | None  # a GHN to start from
    hypernet: Hypernet
    decoder: DecoderKind
    weight_norm: bool
    virtual_edges: int  # longest virtual edge; 1: none
    ln: bool
    hid: int
    layers: int
    heads: int
    dirac: bool
    pooled_flatten: bool
    max_shape: int  # largest decoded channels
    # Training, see `TrainConfig`.
    epochs: int
    steps: int | None  # in the place of epochs
    meta_batch_size: int
    accumulate: int
    own_images: bool
    opt: str
    lr: float
    wd: float
    scheduler: str
    lr_steps: str  # epochs at which the step schedule decays, such as 200,250
    gamma: float
    warmup: int
    grad_clip: float
    net_clip: float
    label_smoothing: float | None  # None: 0, for imagenet 0.1
    ema: float
    amp: bool
    seed: int
    save_interval: int
    log_interval: int

    @property
    def _is_imagenet(self) -> bool:
        return self.dataset == "imagenet"

    @property
    def n_images(self) -> int:
        """How many images each net of a step sees."""
        return self.batch_size or (256 if self._is_imagenet else 64)

    def trainer(
        self, folder: Path, device: torch.device | str, group: Group, given: Collection[str] = ()
    ) -> GHNTrainer:
        """Read the images and make the trainer.

        Args:
            folder: of the checkpoint and the log.
            device: to train on.
            group: of processes.
            given: names of settings that must not be contradicted by the GHN to start from.

        Raises:
            OnnxGhnError: images or a GHN that cannot be read, or settings that make no sense.
        """
        images, num_classes = self._images()
        nets = self._nets(num_classes)
        ghn = self._ghn(num_classes, given).to(device)
        return GHNTrainer(ghn, nets, images, self._train_config(images.steps_per_epoch), folder, group)

    def _images(self) -> tuple[BatchStream | FileStream, int]:
        """The training stream (a batch depends on the seed and the step alone), and the number of classes."""
        images = load_dataset(self.dataset, self.data_dir, "train")
        stream = train_stream(images, self.n_images, seed=self.seed, resize_to=self.image_size, channels_last=True)
        return stream, len(images.classes)

    def _nets(self, num_classes: int) -> ArchitectureStream:
        limits = NetLimits(
            self.max_cells,
            self.max_params,
            self.channels,
            any_size=self.image_size is not None,
            transformers=self.transformers,
            families=self.families,
        )
        return ArchitectureStream(
            self.split,
            num_classes,
            self.seed,
            limits,
            large_images=self._is_imagenet,
            image_size=self.image_size or 32,
        )

    def _ghn(self, num_classes: int, given: Collection[str]) -> GHN:
        config = self._ghn_config(num_classes)
        if not self.ckpt:
            return new_ghn(config, seed=self.seed)
        ghn = load_ghn(self.ckpt)
        for setting, field in _SHAPE.items():
            own, asked = (getattr(each, field) for each in (ghn.config, config))
            if setting == "max_shape":  # that of kernels goes with the data set
                own, asked = own[0], asked[0]
            if setting in given and own != asked:
                raise OptionError(f"`{setting}`: {self.ckpt} has {field} {own}, not {asked}; leave it out, or `ckpt`")
        return ghn

    def _ghn_config(self, num_classes: int) -> GHNConfig:
        is_graphormer = self.hypernet == "graphormer"
        side = 16 if self._is_imagenet else 11
        return GHNConfig(
            max_shape=(self.max_shape, self.max_shape, side, side),
            num_classes=num_classes,
            hypernet=self.hypernet,
            decoder=self.decoder,
            weight_norm=self.weight_norm or is_graphormer,
            ve=self.virtual_edges > 1 or is_graphormer,
            ve_cutoff=self.virtual_edges if self.virtual_edges > 1 else _CUTOFF,
            layernorm=self.ln or is_graphormer,
            hid=self.hid,
            heads=self.heads,
            dirac=self.dirac,
            pooled_flatten=self.pooled_flatten,
            layers=self.layers,
            kernel_slice="centre" if is_graphormer else "corner",
            kernel_overflow="interpolate" if is_graphormer else "tile",
            graph_rules="onnx",
            name=self.name,
            dataset=self.dataset,
        )

    def _train_config(self, steps_per_epoch: int) -> TrainConfig:
        epochs = [epoch for epoch in self.lr_steps.split(",") if epoch]
        if not all(epoch.strip().isdigit() for epoch in epochs):
            raise OptionError(f"`lr_steps` {self.lr_steps}: write epochs, as 200,250")
        smoothing = self.label_smoothing
        if smoothing is None:
            smoothing = 0.1 if self._is_imagenet else 0.0
        return TrainConfig(
            steps=self.steps or self.epochs * steps_per_epoch,
            meta_batch_size=self.meta_batch_size,
            accumulate=self.accumulate,
            own_images=self.own_images,
            opt=self.opt,
            lr=self.lr,
            wd=self.wd,
            scheduler=self.scheduler,
            lr_steps=tuple(int(epoch) * steps_per_epoch for epoch in epochs),
            gamma=self.gamma,
            warmup=self.warmup,
            grad_clip=self.grad_clip,
            net_clip=self.net_clip,
            label_smoothing=smoothing,
            ema=self.ema,
            amp=self.amp,
            seed=self.seed,
            save_interval=self.save_interval,
            log_interval=self.log_interval,
        )
