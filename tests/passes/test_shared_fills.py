"""The note on matrices of one value that several layers read is true, or it is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from onnx_ghn.exporters import pytorch
from onnx_ghn.passes import open_model


def _picked(*, constant: bool) -> ModelProto:
    """Rows of a table of ones, taken by two indices that are stored, or given."""
    nodes, inputs, stored = [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])], []
    for number in range(2):
        index = numpy_helper.from_array(np.array([number]), f"i{number}")
        if constant:
            stored.append(index)
        else:
            inputs.append(helper.make_tensor_value_info(index.name, TensorProto.INT64, [1]))
        nodes.append(helper.make_node("Gather", ["table", index.name], [f"row{number}"]))
    nodes += [helper.make_node("Mul", ["x", "row0"], ["h"]), helper.make_node("Mul", ["h", "row1"], ["y"])]
    stored.append(numpy_helper.from_array(np.ones((2, 4), np.float32), "table"))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_row_for_each_layer_is_no_matrix_that_layers_share() -> None:
    assert open_model(_picked(constant=True)).notes == ()
    assert open_model(_picked(constant=False)).notes[0].startswith("1 matrix of one value, first table, read by 2")


class _Steps(nn.Module):
    """A recurrence whose matrix begins at zero and is read at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.Parameter(torch.zeros(4, 4))
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = x[:, 0]
        for step in range(1, 4):
            state = torch.tanh(self.inner(x[:, step]) + state @ self.recurrent)
        return state


def test_where_notes_name_all_tensors_no_tool_has_merged_any(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    pytorch.export(_Steps(), path, torch.randn(2, 4, 4), exporter="torchscript")
    assert open_model(path).notes == ()
