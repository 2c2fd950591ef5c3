"""An architecture of DeepNets-1M: a genotype and the sizes of the network built from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from onnx_ghn.deepnets1m.genotypes import HEADS, Genotype
from onnx_ghn.errors import OptionError
from onnx_ghn.json_types import Json, JsonView

__all__ = ["Architecture"]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a network is built from. Names are those of facebookresearch/ppuda, ppuda/deepnets1m/net.py (`Network`).

    Raises:
        OptionError: a value is out of range, or preprocessing is left out where the sizes need it.
    """

    genotype: Genotype
    n_cells: int
    C: int = 32  # channels of the first cell, even
    ks: int = 3  # kernel of the first convolution
    stem_type: int = 0  # 0: one convolution; 1: three, as DARTS has for ImageNet
    stem_pool: bool = False  # a max-pool in the simple stem
    norm: str | None = "bnorm"  # batch norm after convolutions, or None
    preproc: bool = True  # a 1 × 1 convolution of each input of a cell
    C_mult: int = 2  # factor of channels at each reduction
    fc_layers: int = 1  # linear layers of the classifier
    fc_dim: int = 256  # width of the hidden ones
    glob_avg: bool = True  # global pooling before the classifier, else a VGG-style head

    def __post_init__(self) -> None:
        limits = {"n_cells": 1024, "C": 1 << 16, "ks": 64, "C_mult": 16, "fc_layers": 64, "fc_dim": 1 << 20}
        for name, largest in limits.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= largest:
                raise OptionError(f"architecture: {name} is {value!r}, must be an integer of 1 to {largest}")
        if self.C % 2:
            raise OptionError(f"architecture: C is {self.C}, must be even: stems and skips halve it")
        if self.genotype.is_vit and self.C < HEADS:
            raise OptionError(f"architecture: C is {self.C}, must be at least {HEADS}, the heads of self-attention")
        if self.stem_type not in (0, 1):
            raise OptionError(f"architecture: stem_type is {self.stem_type!r}, must be 0 or 1")
        if not self.preproc and (self.C_mult > 1 or len(self.genotype.normal_concat) > 1):
            raise OptionError("architecture: preproc may be left out only with C_mult 1 and one concatenated state")

    @classmethod
    def from_dict(cls, values: JsonView) -> Architecture:
        """From an entry of a DeepNets-1M meta file (its counts are ignored). Raises OptionError."""
        if not isinstance(values, Mapping) or "genotype" not in values or "n_cells" not in values:
            raise OptionError("architecture: no genotype and n_cells; is this a DeepNets-1M meta file?")
        known = {field.name for field in dataclasses.fields(cls)} - {"genotype"}
        fields = {name: values[name] for name in known if name in values}
        return cls(genotype=Genotype.from_dict(values["genotype"]), **fields)

    def to_dict(self) -> Json:
        """The form that is stored as JSON; `from_dict` reads it."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> Architecture:
        """This architecture with other sizes. Raises OptionError."""
        return dataclasses.replace(self, **changes)

    def is_reduction(self, cell: int) -> bool:
        """Whether a cell is the reduction cell: those at one third and two thirds of the depth."""
        return cell > 0 and cell in (self.n_cells // 3, 2 * self.n_cells // 3)
