"""What a framework's model has to offer to be exported and loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from onnx_ghn.exporters.weight_map import Array

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["ExportedElsewhere", "HoldsConstants", "LiveModel", "MendsFiles"]


class LiveModel(Protocol):
    """A framework's model whose weights can be read and set, and its exporter."""

    framework: str
    exporter: str
    numbered: bool = False  # weights' names hold numbers that differ between instances of one model (conv2d_1/kernel)
    takes_inputs: bool = True  # a file of it has to depend on inputs

    def read(self) -> dict[str, Array]:
        """Copies of all floating-point weights and statistics by name."""

    def write(self, values: Mapping[str, Array]) -> None:
        """Set some of them, in place."""

    def trainable(self) -> Set[str]:
        """Names of the weights that training would change."""

    def convert(self, folder: Path) -> onnx.ModelProto | Path:
        """Convert the model as it is now to ONNX: a model in memory, or a file in `folder`."""


@runtime_checkable
class MendsFiles(Protocol):
    """A live model whose exporter writes something wrong that weights and their places do not depend on."""

    def mend(self, path: Path) -> None:
        """Mend a file that `convert` wrote, where it is. Asked for once an export: of the file that is kept."""


@runtime_checkable
class HoldsConstants(Protocol):
    """A live model among whose weights are some that nothing changes in training, not even as statistics."""

    def constants(self) -> Set[str]:
        """The names of these weights."""


@runtime_checkable
class ExportedElsewhere(Protocol):
    """A live model that people also export without us, in ways that leave its weights in other places."""

    def elsewhere(self, model: ir.Model) -> Iterator[LiveModel]:
        """The same live model with other ways of exporting it, first the one that a file looks like."""
