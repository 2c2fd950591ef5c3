"""A network for measuring, built node by node, whose values' shapes are known while it is built."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["ProbeBuilder", "Tensor"]

_OPSET, _IR_VERSION = 17, 8
_INLINE_ELEMENTS = 4096  # larger weights are a ConstantOfShape, which onnxruntime computes while it loads


class Tensor:
    """A value of a probe."""

    def __init__(self, name: str, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> None:
        self.name, self.shape, self.kind = name, shape, kind

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class ProbeBuilder:
    """Nodes, weights and inputs.

    Attributes:
        rng: whose draws decide everything.
        stores_all: write large weights into the model, as files have them, which takes time and room.
        n_macs: multiply-accumulates so far.
        n_weights: elements of weights so far.
    """

    def __init__(self, rng: random.Random, stores_all: bool = False) -> None:
        self.rng, self.stores_all = rng, stores_all
        self.n_macs = self.n_weights = self._n_names = 0
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[Tensor] = []
        self._stored: list[onnx.TensorProto] = []
        self._read: set[str] = set()
        self._made: dict[str, Tensor] = {}

    @property
    def n_nodes(self) -> int:
        """Number of nodes, with those that onnxruntime will fuse."""
        return len(self._nodes)

    def input(self, *shape: int) -> Tensor:
        """A float32 input."""
        tensor = Tensor(f"in{len(self._inputs)}", shape)
        self._inputs.append(tensor)
        return tensor

    def weight(self, *shape: int) -> str:
        """A weight whose values keep activations near one."""
        self.n_weights += math.prod(shape)
        value = 1.0 / max(math.prod(shape[1:]), 1) if len(shape) > 1 else 0.1
        value *= 1 + 1e-4 * self._n_names  # equal weights would be joined, and what reads them too
        name = self._name("w")
        if self.stores_all or math.prod(shape) <= _INLINE_ELEMENTS:
            self._stored.append(numpy_helper.from_array(np.full(shape, value, np.float32), name))
            return name
        size = self.constant(np.array(shape, np.int64))
        filled = numpy_helper.from_array(np.array([value], np.float32))
        self._nodes.append(helper.make_node("ConstantOfShape", [size], [name], value=filled))
        return name

    def constant(self, array: npt.NDArray[Any]) -> str:
        """A stored tensor: a shape, axes, a scalar."""
        name = self._name("c")
        self._stored.append(numpy_helper.from_array(array, name))
        return name

    def number(self, value: float) -> str:
        """A stored float."""
        return self.constant(np.array(value, np.float32))

    def op(
        self,
        op_type: str,
        inputs: Sequence[Tensor | str],
        shape: Sequence[int],
        kind: int = TensorProto.FLOAT,
        **attributes: Any,
    ) -> Tensor:
        """A node with one output of a shape."""
        return self.ops(op_type, inputs, [shape], kind, **attributes)[0]

    def ops(
        self,
        op_type: str,
        inputs: Sequence[Tensor | str],
        shapes: Sequence[Sequence[int]],
        kind: int = TensorProto.FLOAT,
        **attributes: Any,
    ) -> list[Tensor]:
        """A node with several outputs."""
        names = [entry if isinstance(entry, str) else entry.name for entry in inputs]
        outputs = [Tensor(self._name("v"), tuple(shape), kind) for shape in shapes]
        name = f"n{len(self._nodes)}"
        given = [tensor.name for tensor in outputs]
        self._nodes.append(helper.make_node(op_type, names, given, name, **attributes))
        self._read.update(names)
        self._made.update({tensor.name: tensor for tensor in outputs})
        return outputs

    def model(self) -> bytes:
        """The network; every value that no node reads is an output."""
        outputs = [tensor for name, tensor in self._made.items() if name not in self._read]
        graph = helper.make_graph(
            self._nodes,
            "probe",
            [helper.make_tensor_value_info(one.name, one.kind, one.shape) for one in self._inputs],
            [helper.make_tensor_value_info(one.name, one.kind, None) for one in outputs],
            self._stored,
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString()
        return data

    def feed(self) -> dict[str, npt.NDArray[np.float32]]:
        """Random inputs."""
        drawn = np.random.default_rng(self.rng.randrange(2**31))
        return {one.name: drawn.standard_normal(one.shape, np.float32) for one in self._inputs}

    def _name(self, prefix: str) -> str:
        self._n_names += 1
        return f"{prefix}{self._n_names}"
