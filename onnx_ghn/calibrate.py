"""BatchNorm running statistics for predicted weights, so that the file computes something sensible in inference mode.

A GHN predicts weights, not statistics. One forward pass of a copy whose batch norms use the statistics of the batch gives
them all at once, each with the layers before it already normalised.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.calibration_inputs import input_batches
from onnx_ghn.coverage import CoverageReport
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.graph import ComputationGraph

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["calibrate_statistics"]

logger = logging.getLogger(__name__)
Array = npt.NDArray[Any]

_MEAN, _VARIANCE = 3, 4  # inputs of BatchNormalization


def calibrate_statistics(
    model: ir.Model,
    graph: ComputationGraph,
    coverage: CoverageReport,
    source: str | os.PathLike[str] = "noise",
    *,
    seed: int = 0,
) -> int:
    """Set the running means and variances of a model's batch norms, in place.

    Args:
        model: with its predicted weights injected.
        graph: as it was read from the model.
        coverage: gets a note where statistics could not be calibrated.
        source: "noise" for standard normal inputs, or a folder of images.
        seed: of the inputs.

    Returns:
        number of layers calibrated.

    Raises:
        OptionError: a folder without images. RuntimeFailure: onnxruntime cannot run the model.
    """
    from onnx_ghn.onnx_io import inject, write_model

    if not any(p.op == "BatchNormalization" and p.role == "statistic" for p in graph.parameters):
        return 0
    with tempfile.TemporaryDirectory(prefix="onnx-ghn-") as folder:
        path = Path(folder) / "model.onnx"
        write_model(model, path)
        layers = _use_batch_statistics(path)
        if not layers:
            coverage.notes.append("running statistics are kept: no batch norm stores its own in the main graph")
            return 0
        measured = _run(path, layers, source, seed)
    tensors = {}
    bad = []
    stored = {p.name: p for p in graph.parameters}
    for name, values in measured.items():
        if not np.isfinite(values).all() or name not in stored:
            bad.append(name)
            continue
        tensors[name] = values
    dtypes = {name: tensor.dtype.numpy() for name, tensor in _stored(model).items() if name in tensors}
    inject(model, {name: _constant(values.astype(dtypes[name])) for name, values in tensors.items()})
    if bad:
        coverage.notes.append(
            f"{len(bad)} running statistics are not finite under the calibration inputs and are kept, first {bad[0]}"
        )
    return len(layers)


def _stored(model: ir.Model) -> dict[str, Any]:
    from onnx_ghn.onnx_io import stored_tensors

    return dict(stored_tensors(model))


def _constant(values: Array) -> Any:
    return lambda: values


def _use_batch_statistics(path: Path) -> list[tuple[str, str, str, str]]:
    """Rewrite the file's batch norms to use (and to give out) the statistics of the batch.

    Returns:
        (mean's stored name, variance's, mean's output, variance's output) of each layer.
    """
    import onnx
    from onnx import helper

    proto = onnx.load(path, load_external_data=False)
    graph = proto.graph
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 1)
    producers = {output: node for node in graph.node for output in node.output}
    initializers = {tensor.name for tensor in graph.initializer}
    initializers |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    layers, nodes = [], []
    for number, node in enumerate(graph.node):
        attributes = {a.name: a for a in node.attribute}
        names = [_origin(name, producers, initializers) for name in node.input[_MEAN:]]
        in_training = "training_mode" in attributes and attributes["training_mode"].i
        if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx") or None in names or in_training:
            nodes.append(node)
            continue
        epsilon = attributes["epsilon"].f if "epsilon" in attributes else 1e-5
        prefix = f"onnx_ghn_calibration_{number}"
        nodes.extend(_decomposed(node, prefix, epsilon, opset, helper))
        layers.append((str(names[0]), str(names[1]), f"{prefix}_mean", f"{prefix}_variance"))
    del graph.node[:]
    graph.node.extend(nodes)
    for _, _, mean, variance in layers:
        graph.output.extend(
            [helper.make_empty_tensor_value_info(mean), helper.make_empty_tensor_value_info(variance)]
        )
    del graph.value_info[:]
    onnx.save(proto, path)
    return layers


def _origin(name: str, producers: dict[str, onnx.NodeProto], stored: set[str]) -> str | None:
    """The stored tensor behind Identity nodes."""
    while name not in stored:
        node = producers.get(name)
        if node is None or node.op_type != "Identity":
            return None
        name = node.input[0]
    return name


def _decomposed(
    node: onnx.NodeProto, prefix: str, epsilon: float, opset: int, helper: Any
) -> list[onnx.NodeProto]:
    """BatchNormalization of any rank and opset with the statistics of its batch, as arithmetic on N × C × rest."""
    import onnx

    x, scale, shift = node.input[:3]
    made: list[onnx.NodeProto] = []

    def op(kind: str, inputs: list[str], out: str, **attributes: Any) -> str:
        made.append(helper.make_node(kind, inputs, [out], **attributes))
        return out

    def constant(values: Any, dtype: int, out: str) -> str:
        array = np.asarray(values)
        tensor = helper.make_tensor(out, dtype, array.shape, array.reshape(-1).tolist())
        return op("Constant", [], out, value=tensor)

    def mean_over(value: str, out: str, keepdims: int) -> str:
        if opset >= 18:
            axes = constant([0, 2], onnx.TensorProto.INT64, f"{out}_axes")
            return op("ReduceMean", [value, axes], out, keepdims=keepdims)
        return op("ReduceMean", [value], out, axes=[0, 2], keepdims=keepdims)

    flat_shape = constant([0, 0, -1], onnx.TensorProto.INT64, f"{prefix}_flat_shape")
    vector_shape = constant([1, -1, 1], onnx.TensorProto.INT64, f"{prefix}_vector_shape")
    given = op("Reshape", [x, flat_shape], f"{prefix}_given")  # (N, C, rest)
    # In float32 whatever the model's type is: squares overflow half precision.
    flat = op("Cast", [given], f"{prefix}_flat", to=onnx.TensorProto.FLOAT)
    mean = mean_over(flat, f"{prefix}_mean3", 1)  # (1, C, 1)
    centred = op("Sub", [flat, mean], f"{prefix}_centred")
    squared = op("Mul", [centred, centred], f"{prefix}_squared")
    variance = mean_over(squared, f"{prefix}_variance3", 1)
    guarded = op("Add", [variance, constant(epsilon, onnx.TensorProto.FLOAT, f"{prefix}_epsilon")], f"{prefix}_guarded")
    root = op("Sqrt", [guarded], f"{prefix}_root")
    normalised = op("Div", [centred, root], f"{prefix}_normalised")
    affine = []
    for name, role in ((scale, "scale"), (shift, "shift")):
        as_float = op("Cast", [name], f"{prefix}_{role}_float", to=onnx.TensorProto.FLOAT)
        affine.append(op("Reshape", [as_float, vector_shape], f"{prefix}_{role}"))
    scaled = op("Mul", [normalised, affine[0]], f"{prefix}_scaled")
    shifted = op("Add", [scaled, affine[1]], f"{prefix}_shifted")
    shape = op("Shape", [x], f"{prefix}_shape")
    back = op("Reshape", [shifted, shape], f"{prefix}_back")
    made.append(helper.make_node("CastLike", [back, x], [node.output[0]]) if opset >= 15 else _cast_back(back, node, helper))
    channels = constant([-1], onnx.TensorProto.INT64, f"{prefix}_channels")
    op("Reshape", [mean, channels], f"{prefix}_mean")
    op("Reshape", [variance, channels], f"{prefix}_variance")
    return made


def _cast_back(value: str, node: onnx.NodeProto, helper: Any) -> onnx.NodeProto:
    """Before CastLike existed models were float32."""
    return helper.make_node("Identity", [value], [node.output[0]])


def _run(
    path: Path, layers: list[tuple[str, str, str, str]], source: str | os.PathLike[str], seed: int
) -> dict[str, Array]:
    """Statistics by stored name, pooled over the batches."""
    from onnx_ghn.runtime import open_session, run_session

    session = open_session(path)
    wanted = [name for layer in layers for name in layer[2:]]
    moments: list[list[Array]] = []
    failure: RuntimeFailure | None = None
    for batches in input_batches(session, source, seed):
        moments = []
        try:
            for feed in batches:
                moments.append(run_session(session, feed, wanted))
            break
        except RuntimeFailure as error:
            # A model exported for one batch size only: the next round of inputs keeps to what the file declares.
            failure = error
            moments = []
    if not moments:
        assert failure is not None
        raise RuntimeFailure(f"calibration: {failure}; choose --calibrate none, or give images") from failure
    pooled: dict[str, Array] = {}
    for i, (mean_name, variance_name, _, _) in enumerate(layers):
        means = np.stack([run[2 * i] for run in moments]).astype(np.float64)  # (batches, C)
        variances = np.stack([run[2 * i + 1] for run in moments]).astype(np.float64)
        mean = means.mean(axis=0)
        pooled[mean_name] = mean
        pooled[variance_name] = np.maximum((variances + means**2).mean(axis=0) - mean**2, 0)
    return pooled
