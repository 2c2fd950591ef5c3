"""What a policy sees of a model and of its tensors: kinds, sizes and places, never names."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from onnx_ghn.graph import ComputationGraph, Parameter, Primitive, Role
from onnx_ghn.prediction.authors import authors_start, holds_weights

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["ModelFeatures", "TensorFeatures", "model_features", "no_image_classifier", "tensor_features"]

Dim = TypeVar("Dim")
Data = Literal["image", "video", "series", "table", "tokens", "other"]
Norm = Literal["batch", "layer", "none"]
Kind = Literal["conv1d", "conv2d", "conv3d", "linear", "recurrent", "embedding", "position", "norm", "bias", "other"]

_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})
_TOKEN_TYPES = ("INT32", "INT64")  # how token numbers are stored
_SAMPLE = 4096  # elements of a weight that show its distribution
_HEAVY = 0.5  # excess kurtosis: no initialiser draws so many large values; -1.2 is uniform, 0 normal
_SENTENCES: Mapping[Data, str] = {
    "image": "an image model",
    "video": "a model of videos or volumes",
    "series": "a model of series or sound",
    "table": "a model of tables",
    "tokens": "a text model",
    "other": "a model of an unknown kind",
}


@dataclasses.dataclass(frozen=True)
class ModelFeatures:
    """What a policy sees of a model.

    Attributes:
        data: what its first input looks like: four axes are an image, five a video, three a series, two a table,
            integers tokens.
        output_axes: of its first output, the batch counted; 0 where it is unknown. (N, C, 1, 1) are two: pooled maps.
        attention: whether some node is attention.
        recurrent: whether it has recurrent cells.
        norm: the kind that most of its norms are of.
        conv2d_share: of its weights' elements, those in 2-D convolutions, 0 to 1.
        conv1d_share, recurrent_share: likewise.
        sign_of_training: why it looks trained, for people: norms whose scales differ, or, where it has none, weights
            with heavy tails; "" where it looks fresh.
        n_outputs: along the last axis of its first output; 0 where it is unknown.
        channels: of its first input, where that is an image, 3 for colour; 0 where it is none, or they are unknown.
        full_size: its first output has the height, or the width, of that image, as of a segmentation.
    """

    data: Data
    output_axes: int
    attention: bool
    recurrent: bool
    norm: Norm
    conv2d_share: float
    conv1d_share: float
    recurrent_share: float
    sign_of_training: str
    n_outputs: int = 0
    channels: int = 0
    full_size: bool = False

    @property
    def words(self) -> str:
        """What it is, for people."""
        return _SENTENCES[self.data]


@dataclasses.dataclass(frozen=True)
class TensorFeatures:
    """What a policy sees of a tensor.

    Attributes:
        kind: of the layer that it belongs to.
        longest, shortest: side of its kernel; 1 where it has none.
        depthwise: one channel in for each channel out, or groups of a few.
        fan_in: of a weight; 0 for others.
        first: no weight stands before it.
        head: it belongs to the last layer.
    """

    kind: Kind
    longest: int = 1
    shortest: int = 1
    depthwise: bool = False
    fan_in: int = 0
    first: bool = False
    head: bool = False


def model_features(model: ir.Model, graph: ComputationGraph, stored: Mapping[str, StoredTensor]) -> ModelFeatures:
    """What a policy sees of a model.

    Args:
        stored: its tensors, before anything is predicted.
    """
    sizes: dict[Kind, int] = {}
    for parameter in graph.parameters:
        if parameter.role in (Role.weight, Role.embedding):
            kind = _kind(parameter)
            sizes[kind] = sizes.get(kind, 0) + parameter.size
    total = max(1, sum(sizes.values()))
    primitives = [node.primitive for node in graph.nodes]
    n_batch, n_layer = primitives.count(Primitive.bn), primitives.count(Primitive.ln)
    norm: Norm = "none" if not n_batch + n_layer else "batch" if n_batch >= n_layer else "layer"
    outputs = model.graph.outputs
    shape = _unpooled(tuple(outputs[0].shape)) if outputs and outputs[0].shape is not None else None
    data, given = _first_input(model)
    return ModelFeatures(
        data=data,
        channels=_channels(given) if data == "image" else 0,
        full_size=data == "image" and shape is not None and _is_full_size(given, shape),
        output_axes=len(shape) if shape is not None else 0,
        n_outputs=shape[-1] if shape is not None and len(shape) and isinstance(shape[-1], int) else 0,
        attention=Primitive.msa in primitives,
        recurrent="recurrent" in sizes,
        norm=norm,
        conv2d_share=sizes.get("conv2d", 0) / total,
        conv1d_share=sizes.get("conv1d", 0) / total,
        recurrent_share=sizes.get("recurrent", 0) / total,
        sign_of_training=_sign_of_training(graph.parameters, stored),
    )


def no_image_classifier(model: ir.Model) -> str:
    """Why a model is no classifier of images, for people; "" where it may be one."""
    data, _ = _first_input(model)
    if data != "image":
        return f"this is {_SENTENCES[data]}"
    outputs = model.graph.outputs
    shape = _unpooled(tuple(outputs[0].shape)) if outputs and outputs[0].shape is not None else ()
    return "the outputs of this model are no scores of classes" if len(shape) > 2 else ""


def tensor_features(graph: ComputationGraph) -> list[TensorFeatures]:
    """What a policy sees of each parameter of a graph, in their order."""
    node_of = {index: number for number, node in enumerate(graph.nodes) for index in node.parameters}
    weighted_before = _weighted_before(graph)
    heads = {index for number in graph.head if number is not None for index in graph.nodes[number].parameters}
    found = []
    for index, parameter in enumerate(graph.parameters):
        kind = _kind(parameter)
        number = node_of.get(index)
        canonical = parameter.layout.canonical
        is_weight = parameter.role is Role.weight
        kernel = canonical[2:] if is_weight and kind in ("conv1d", "conv2d", "conv3d") else ()
        primitive = graph.nodes[number].primitive if number is not None else None
        found.append(
            TensorFeatures(
                kind=kind,
                longest=max(kernel, default=1),
                shortest=min(kernel, default=1),
                depthwise=primitive in (Primitive.sep_conv, Primitive.dil_conv) and canonical[1:2] == (1,),
                fan_in=math.prod(canonical[1:]) if is_weight else 0,
                first=number is not None and not weighted_before[number],
                head=index in heads,
            )
        )
    return found


def _weighted_before(graph: ComputationGraph) -> list[bool]:
    """For each node, whether a weight stands on some way to it."""
    behind = [False] * len(graph.nodes)
    for source, target in graph.edges.tolist():  # sorted by source, and sources come in topological order
        behind[target] |= behind[source] or graph.nodes[source].weight is not None
    return behind


def _kind(parameter: Parameter) -> Kind:
    match parameter.role:
        case Role.embedding:
            return "embedding"
        case Role.position:
            return "position"
        case Role.norm_scale | Role.norm_bias | Role.statistic:
            return "norm"
        case Role.bias:
            return "bias"
        case Role.weight:
            if parameter.op in _RECURRENT:
                return "recurrent"
            axes = len(parameter.shape) if "Conv" in parameter.op else 2
            kinds: Mapping[int, Kind] = {3: "conv1d", 4: "conv2d", 5: "conv3d"}
            return kinds.get(axes, "linear")
        case _:
            return "other"


def _channels(shape: Sequence[object]) -> int:
    """Of images, (N, C, H, W) or (N, H, W, C): the smaller of the axes that may be theirs; 0 where none is known."""
    return min((size for size in (shape[1], shape[3]) if isinstance(size, int) and size > 0), default=0)


def _unpooled(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """(N, C) for maps that were pooled to one place, (N, C, 1, 1) or (N, C, 1, 1, 1); any other shape as it is.

    (N, T, 1) is a series of one channel, and stays.
    """
    return shape[:2] if len(shape) > 3 and all(size == 1 for size in shape[2:]) else shape


def _is_full_size(given: Sequence[object], output: Sequence[object]) -> bool:
    """Whether images, (N, C, H, W) or (N, H, W, C), become maps of their height or width: axis 2 is one of both."""
    return len(output) == 4 and isinstance(output[2], int) and output[2] == given[2]


def _first_input(model: ir.Model) -> tuple[Data, Sequence[object]]:
    """What the first input looks like that has a shape, and its shape."""
    initializers = model.graph.initializers
    for value in model.graph.inputs:
        if value.name in initializers or value.shape is None or value.dtype is None:
            continue
        axes = len(value.shape)
        if value.dtype.name in _TOKEN_TYPES and axes <= 2:
            return "tokens", ()
        kinds: Mapping[int, Data] = {2: "table", 3: "series", 4: "image", 5: "video"}
        if axes in kinds:
            return kinds[axes], tuple(value.shape)
    return "other", ()


def _sign_of_training(parameters: Sequence[Parameter], stored: Mapping[str, StoredTensor]) -> str:
    """That the scales of norms differ within a tensor, or, without norms, that most weights have heavy tails.

    Training makes both. Some authors draw the scales of norms, too (DCGAN, RepVGG of timm): where all running
    statistics are still those that every framework begins with, scales that differ are not enough, and tails decide.
    That running statistics differ tells nothing: one pass in training mode, which some exporters make, changes them.
    Nor do frequencies, masks and windows by which inputs are multiplied, nor what a frozen layer holds.
    """
    from onnx_ghn.onnx_io.common_value import common_value

    if not holds_weights(parameters, stored):
        return ""
    readable = [
        parameter
        for parameter in parameters
        if not (
            stored[parameter.name].is_absent or stored[parameter.name].is_sparse or stored[parameter.name].is_string
        )
    ]
    scales = [p for p in readable if p.role is Role.norm_scale and p.size > 1 and not p.is_part and not p.frozen]
    scales = [p for p in scales if common_value(stored[p.name]) is not None or not authors_start(p, stored[p.name])]
    if scales:
        differ = any(common_value(stored[p.name]) is None for p in scales)
        if not differ or not _has_first_statistics(readable, stored):
            return "the scales of its norms differ" if differ else ""
    # The integers of quantised weights have the tails of their floats.
    large = [p for p in readable if p.size >= _SAMPLE // 4]
    weights = [p for p in large if "int" in p.dtype or (p.role is Role.weight and "float" in p.dtype)]
    has_tails = bool(weights) and float(np.median([_kurtosis(stored[p.name]) for p in weights])) > _HEAVY
    return "most of its weights have values far from the others" if has_tails else ""


def _has_first_statistics(parameters: Sequence[Parameter], stored: Mapping[str, StoredTensor]) -> bool:
    """Whether there are running statistics, and all are means of 0 and variances of 1."""
    from onnx_ghn.onnx_io.common_value import common_value

    return {common_value(stored[p.name]) for p in parameters if p.role is Role.statistic and not p.singular} == {
        0.0,
        1.0,
    }


def _kurtosis(tensor: StoredTensor) -> float:
    """The excess kurtosis of a weight, of a sample of its elements; 0 where they are all equal."""
    values = np.asarray(tensor.numpy()).reshape(-1)
    values = values[:: max(1, values.size // _SAMPLE)].astype(np.float64)
    apart = values - values.mean()
    variance = float((apart**2).mean())
    return float((apart**4).mean()) / variance**2 - 3 if variance > 0 and math.isfinite(variance) else 0.0
