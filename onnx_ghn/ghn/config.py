"""The hyperparameters of a GHN: one frozen record, saved whole beside the weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal, get_args

from onnx_ghn.errors import CheckpointError

__all__ = ["GHNConfig"]

Hypernet = Literal["gatedgnn", "mlp", "graphormer"]
DecoderKind = Literal["conv", "mlp"]
KernelSlice = Literal["corner", "centre"]
KernelOverflow = Literal["tile", "interpolate"]
GraphRules = Literal["ppuda", "ghn3", "onnx"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "hypernet": get_args(Hypernet),
    "decoder": get_args(DecoderKind),
    "kernel_slice": get_args(KernelSlice),
    "kernel_overflow": get_args(KernelOverflow),
    "graph_rules": get_args(GraphRules),
}
# Far above any published GHN (hid 384, 64 channels); keeps a hostile config from asking for terabytes.
_LARGEST = {"num_classes": 1_000_000, "hid": 16_384, "heads": 1024, "layers": 1024, "ve_cutoff": 250}
_LARGEST_SHAPE = 4096

_PUBLISHED_FIELDS = {
    *("max_shape", "num_classes", "hid", "hypernet", "decoder", "heads", "layers"),
    *("weight_norm", "ve", "layernorm"),
}
# What a published config may hold besides; only is_ghn2 changes what is predicted.
_PUBLISHED_EXTRAS = {"debug_level", "is_ghn2", "pretrained"}


@dataclasses.dataclass(frozen=True)
class GHNConfig:
    """Hyperparameters of a GHN. The defaults are GHN-2's for ImageNet.

    Sources: facebookresearch/ppuda, ppuda/ghn/nn.py (GHN-1, GHN-2, MLP; Knyazev et al. 2021) and
    SamsungSAILMontreal/ghn3, ghn3/nn.py (GHN-3; Knyazev et al. 2023).

    Raises:
        CheckpointError: a value of the wrong type or out of range.
    """

    max_shape: tuple[int, int, int, int] = (64, 64, 16, 16)  # largest decoded tensor, out × in × kh × kw
    num_classes: int = 1000  # rows of the class decoder; other class counts are sliced or tiled
    hypernet: Hypernet = "gatedgnn"  # message passing: gatedgnn (GHN-1/2), mlp (none), graphormer (GHN-3)
    decoder: DecoderKind = "conv"  # conv: a stack of 1×1 convolutions over kernel positions
    weight_norm: bool = True  # fan-in normalisation of what is decoded (GHN-2, GHN-3)
    ve: bool = True  # virtual edges, weighted by 1/distance in gatedgnn (GHN-2), embedded in graphormer
    layernorm: bool = True  # layer norm over the node embeddings before decoding
    hid: int = 32  # features of a node embedding
    heads: int = 8  # attention heads (graphormer only)
    layers: int = 3  # transformer layers (graphormer only)
    kernel_slice: KernelSlice = "corner"  # where a small kernel lies in the largest: GHN-3 takes the centre
    dirac: bool = False  # add a decoded multiple of the identity to each weight (`ghn.dirac`); not in published GHNs
    pooled_flatten: bool = False  # a flattened map's weight is that of its mean (`ghn.targets`); not in published GHNs
    kernel_overflow: KernelOverflow = "tile"  # of kernels above max_shape; GHN-3 interpolates bilinearly
    graph_rules: GraphRules = "onnx"  # how the graph is drawn, see DESIGN section 4
    ve_cutoff: int = 50  # longest virtual edge, in 1-hop edges
    trained: bool = False  # False: the weights are a random initialisation
    name: str = ""  # of the checkpoint, for people
    dataset: str = ""  # what it was trained on, for people
    seed: int | None = None  # of the initialisation, if known
    first_classes: int = 0  # how many of the classes are those of the first of several data sets; 0: there is one

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check_type(field.name)
        for key, choices in _CHOICES.items():
            if getattr(self, key) not in choices:
                raise CheckpointError(
                    f"GHN config: {key} is {getattr(self, key)!r}, must be one of {', '.join(choices)}"
                )
        for key, largest in _LARGEST.items():
            if not 1 <= getattr(self, key) <= largest:
                raise CheckpointError(f"GHN config: {key} is {getattr(self, key)}, must be 1 to {largest}")
        if not 0 <= self.first_classes <= self.num_classes:
            raise CheckpointError(
                f"GHN config: first_classes is {self.first_classes}, must be 0 to num_classes, {self.num_classes}"
            )
        if not all(1 <= size <= _LARGEST_SHAPE for size in self.max_shape):
            raise CheckpointError(f"GHN config: max_shape {self.max_shape} must hold sizes of 1 to {_LARGEST_SHAPE}")
        if self.max_shape[2] != self.max_shape[3]:
            raise CheckpointError(f"GHN config: max_shape {self.max_shape} needs square kernels")
        if self.hid % 4:
            raise CheckpointError(
                f"GHN config: hid is {self.hid}, must be a multiple of 4 (the shape embedding's parts)"
            )
        if self.hypernet == "graphormer" and self.hid % self.heads:
            raise CheckpointError(f"GHN config: hid {self.hid} is not a multiple of heads {self.heads}")

    def _check_type(self, key: str) -> None:
        value = getattr(self, key)
        if key == "max_shape":
            sizes = tuple(value) if isinstance(value, (tuple, list)) else ()
            if len(sizes) != 4 or not all(type(size) is int for size in sizes):
                raise CheckpointError(f"GHN config: max_shape is {value!r}, must be four integers")
            object.__setattr__(self, "max_shape", sizes)
            return
        if key == "seed":
            expected: type | tuple[type, ...] = (int, type(None))
        elif key in _LARGEST or key == "first_classes":
            expected = int
        else:
            expected = bool if isinstance(type(self).__dataclass_fields__[key].default, bool) else str
        if not isinstance(value, expected) or (expected is not bool and isinstance(value, bool)):
            raise CheckpointError(f"GHN config: {key} is {value!r}, a {type(value).__name__}")

    def knows_classes(self, count: int) -> bool:
        """Whether the first rows that it decodes for a layer of so many classes were trained as those of one."""
        return count in (self.num_classes, self.first_classes or self.num_classes)

    @property
    def cutoff(self) -> int:
        """Longest distance that is an edge: `ve_cutoff`, or 1 without virtual edges."""
        return self.ve_cutoff if self.ve else 1

    def to_json(self) -> str:
        """The whole record as JSON, one field a line."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: object) -> GHNConfig:
        """From a config as `to_json` writes it, or from a published one (PPUDA, GHN-3).

        Raises:
            CheckpointError: not a mapping, an unknown key, or a bad value.
        """
        if not isinstance(values, Mapping):
            raise CheckpointError(f"GHN config: a {type(values).__name__}, must be a mapping of names to values")
        known = {field.name for field in dataclasses.fields(cls)}
        if "graph_rules" in values:
            unknown = sorted(str(key) for key in values if key not in known)
            if unknown:
                raise CheckpointError(f"GHN config: unknown keys {', '.join(unknown)}; written by a newer onnx-ghn?")
            missing = sorted({"max_shape", "num_classes", "hypernet", "hid"} - set(values))
            if missing:
                raise CheckpointError(f"GHN config: {', '.join(missing)} absent")
            return cls(**values)
        return cls._from_published(values)

    @classmethod
    def _from_published(cls, values: Mapping[str, object]) -> GHNConfig:
        """PPUDA's configs name a hypernet; GHN-3's name heads and layers, and is_ghn2 if they are of a GHN-2."""
        own = _PUBLISHED_FIELDS
        unknown = sorted(str(key) for key in values if key not in own | _PUBLISHED_EXTRAS)
        if unknown:
            raise CheckpointError(f"GHN config: unknown keys {', '.join(unknown)}")
        missing = sorted({"max_shape", "num_classes"} - set(values))
        if missing:
            raise CheckpointError(f"GHN config: {', '.join(missing)} absent; is this a GHN's config?")
        if not isinstance(values.get("is_ghn2", False), bool | None):
            raise CheckpointError(f"GHN config: is_ghn2 is a {type(values['is_ghn2']).__name__}, must be true or false")
        of_ghn3_code = "heads" in values or "layers" in values or "is_ghn2" in values
        fields: dict[str, Any] = {key: values[key] for key in own if key in values}
        for key in ("weight_norm", "ve", "layernorm"):
            fields.setdefault(key, False)  # the published constructors' defaults
        if of_ghn3_code:
            fields.update(graph_rules="ghn3", kernel_overflow="interpolate")
            if values.get("is_ghn2"):
                fields.setdefault("hypernet", "gatedgnn")
                fields.pop("heads", None)
                fields.pop("layers", None)
            else:
                # The published class replaces hypernet and decoder whatever their arguments said.
                fields.update(hypernet="graphormer", decoder="conv", kernel_slice="centre")
        else:
            fields.update(graph_rules="ppuda", kernel_overflow="tile")
        return cls(trained=True, **fields)

    @classmethod
    def preset(cls, kind: str, **changes: object) -> GHNConfig:
        """The configuration of a published GHN for ImageNet.

        Args:
            kind: ghn1, ghn2, mlp (PPUDA's baselines) or ghn3 (the small GHN-3-T: 64 features, 3 layers).
            changes: fields to set otherwise, such as num_classes=10, max_shape=(64, 64, 11, 11) for CIFAR-10.
        """
        if kind not in _PRESETS:
            raise CheckpointError(f"unknown kind of GHN {kind!r}: must be one of {', '.join(_PRESETS)}")
        fields: dict[str, Any] = {"name": kind, **_PRESETS[kind], **changes}
        return cls(**fields)


_PRESETS: dict[str, dict[str, Any]] = {
    "ghn1": {"weight_norm": False, "ve": False, "layernorm": False},
    "ghn2": {},
    "mlp": {"hypernet": "mlp"},
    "ghn3": {"hypernet": "graphormer", "hid": 64, "kernel_slice": "centre", "kernel_overflow": "interpolate"},
}
