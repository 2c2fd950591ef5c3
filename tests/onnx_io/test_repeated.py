"""Copies that a tool, or torch's second exporter, makes of parameters count once."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from onnx_ghn.inspection import inspect_model
from onnx_ghn.onnx_io import read_model, stored_tensors
from onnx_ghn.onnx_io.marks import mark
from onnx_ghn.onnx_io.reads import Read
from onnx_ghn.onnx_io.repeated import repeated_elements

TABLE = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def _tied(turned: np.ndarray) -> ir.Model:
    """A table of six words that a tool has turned for the head."""
    tensors = {"words": TABLE, "turned": turned.astype(np.float32)}
    nodes = [helper.make_node("Gather", ["words", "x"], ["a"]), helper.make_node("MatMul", ["a", "turned"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.INT64, [3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 6])
    initializers = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in tensors.items()]
    return read_model(
        helper.make_model(
            helper.make_graph(nodes, "m", [x], [y], initializers), opset_imports=[helper.make_opsetid("", 20)]
        )
    )


def _note(model: ir.Model, **weights: tuple[int, ...]) -> ir.Model:
    reads = {name: (shape, (Read(f"of {name}", 0, "plain"),)) for name, shape in weights.items()}
    mark(model, json.dumps({"stored": {name: list(shape) for name, shape in weights.items()}}), {}, reads)
    return model


def _repeated(model: ir.Model, *learned: str) -> dict[str, int]:
    return repeated_elements(model, stored_tensors(model), learned, ())


def test_a_copy_of_the_only_parameter_is_that_parameter() -> None:
    model = _note(_tied(TABLE.T), words=(6, 4))
    assert _repeated(model, "words") == {"turned": 24}
    coverage = inspect_model(model, policy="all").coverage
    assert coverage.n_trainable == 24
    assert sum(e.parameter.size for e in coverage.entries) == 48
    assert coverage.n_elements("predicted") + coverage.n_elements("frozen") == 48


@pytest.mark.parametrize(
    "model",
    [
        _tied(TABLE.T),  # without notes nothing tells whether the framework has one table or two
        _note(_tied(TABLE.T), words=(6, 4), turned=(4, 6)),  # two parameters that begin alike
        _note(_tied(TABLE.T), words=(6, 4), head=(4, 6)),  # the second may be the head under another name
        _note(_tied(TABLE.T + (np.arange(24).reshape(4, 6) == 17)), words=(6, 4)),
    ],
    ids=["no notes", "both", "renamed", "another value"],
)
def test_what_may_be_another_parameter_counts(model: ir.Model) -> None:
    assert inspect_model(model, policy="all").coverage.n_trainable == 48


def test_a_constant_matrix_is_no_copy() -> None:
    model = _note(_tied(np.full((4, 6), 0.5)), words=(6, 4))
    model.graph.initializers["words"].const_value = ir.tensor(np.full((6, 4), 0.5, np.float32), name="words")
    assert _repeated(model, "words") == {}


@pytest.mark.filterwarnings("ignore")
def test_torch_marks_tell_a_folded_copy(tmp_path: object) -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(9, 4)
            self.norm = nn.LayerNorm(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.words(x)) @ self.words.weight.t()

    path = f"{tmp_path}/m.onnx"
    torch.onnx.export(Words(), (torch.arange(3)[None],), path, dynamo=True, verbose=False)
    sizes = [int(np.prod(tensor.shape)) for tensor in stored_tensors(read_model(path)).values()]
    assert sizes.count(36) == 2  # both are stored
    assert inspect_model(path).coverage.n_trainable == 9 * 4 + 2 * 4
