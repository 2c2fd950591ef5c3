"""One tensor of a model that is learned, or that training keeps beside what is learned: what it is to its operator."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import NamedTuple

from onnx_ghn.graph.layout import Layout

__all__ = ["ONE_TENSOR", "REPARAMETRISES", "SCORES", "Flattened", "Parameter", "Role", "Singular"]

#: How the reason begins why a later part of a weight that is joined of several is not decoded; the first one follows.
ONE_TENSOR = "one tensor with "
REPARAMETRISES = "reparametrises"  # how the reason begins why a part of a computed constant is not decoded
#: Why a table that is added to attention scores is not decoded.
SCORES = "a bias of attention scores: no primitive stands for it"


class Role(enum.StrEnum):
    """What a parameter is to the operator that uses it; decides its rule of (fallback) initialisation."""

    weight = "weight"
    bias = "bias"
    norm_scale = "norm_scale"
    norm_bias = "norm_bias"
    embedding = "embedding"
    position = "position"
    statistic = "statistic"
    other = "other"
    constant = "constant"


class Flattened(NamedTuple):
    """What the inputs of a linear weight are where a map of channels is flattened before it.

    Attributes:
        positions: of the map, height × width.
        channels_last: input i is of channel i modulo the channels (frameworks whose images are NHWC), else of channel
            i // positions.
    """

    positions: int
    channels_last: bool = False


class Singular(NamedTuple):
    """Of which weight a stored vector is a singular one, in spectral normalisation.

    Attributes:
        weight: the name of that weight.
        layout: from the stored weight to the matrix, rows × columns.
        axis: 0 for the left vector, which has a number for each row, and 1 for the right one.
    """

    weight: str
    layout: Layout
    axis: int


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One trainable tensor (or a running statistic) of a model.

    Attributes:
        name: unique in the model; the name under which `onnx_io.stored_tensors` finds it.
        role: see `Role`.
        layout: from the stored tensor to the canonical one: `layout.stored` is the stored shape,
            `layout.canonical` the canonical shape. Canonical weights are out × in (× kh × kw), canonical
            scales and biases 1-D, position tables 1 × positions × features or 1 × features × h × w.
        dtype: numpy name of the stored type (float32, float16, bfloat16, float64, int8 ...).
        storage: initializer, input_default, constant, constant_of_shape, function or subgraph.
        op: the operator type that uses it first, for messages.
        reason: why no node decodes it (empty where one does); goes into the coverage report.
        doubt: why nothing but its values tells what it does (empty where the graph tells): a prediction, and a standard
            initialisation too, would be a guess.
        uncertain: whether it was learned at all: neither the graph nor the file tells it from a constant.
        depth_fan_in: by how much the canonical fan-in is too small (3-D kernels repeat a 2-D one).
        scale_name, zero_point_name, quantization_axis: for tensors behind DequantizeLinear, the
            stored names of scale and zero point, and the stored axis of per-channel scales (None: it is none of these).
        frozen: the model that was exported does not train it; see `onnx_io.marks`.
        kept: runs of stored elements that it does not train, as (first, behind the last), or that only fill a place
            which the operator has and the framework's layer has not.
        repeated: how many of its elements are those of a parameter that another place of the file holds, too.
        flattened: of a linear weight, the map that its inputs are, if they are one.
        magnitude_of: the name of the weight whose norms it holds (g of weight normalisation, g · v / |v|); "" for none.
        multiplier: the number of the model's code that its operator gets it multiplied by.
        singular: of a statistic that is a singular vector of a weight, which weight; None for any other tensor.
    """

    name: str
    role: Role
    layout: Layout
    dtype: str = "float32"
    storage: str = "initializer"
    op: str = ""
    reason: str = ""
    doubt: str = ""
    uncertain: bool = False
    scale_name: str | None = None
    zero_point_name: str | None = None
    quantization_axis: int | None = None
    frozen: bool = False
    kept: tuple[tuple[int, int], ...] = ()
    repeated: int = 0
    flattened: Flattened | None = None
    magnitude_of: str = ""
    multiplier: float = 1.0
    singular: Singular | None = None

    @property
    def is_part(self) -> bool:
        """Whether it makes one constant with another tensor, whose shape that has: g of weight normalisation, the bias
        of a layer that is applied to constants.
        """
        return bool(self.magnitude_of) or self.reason.startswith(REPARAMETRISES)

    @property
    def part_beside(self) -> str:
        """The name of the first part of the weight that it is a later part of, "" where it is none."""
        return self.reason.removeprefix(ONE_TENSOR) if self.reason.startswith(ONE_TENSOR) else ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Stored shape."""
        return self.layout.stored

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.layout.stored)

    @property
    def n_trained(self) -> int:
        """Number of the elements that training changes, statistics aside: without those that are frozen or kept, and
        without those that are counted elsewhere.
        """
        kept = sum(stop - first for first, stop in self.kept)
        return 0 if self.frozen else max(0, self.size - kept - self.repeated)
