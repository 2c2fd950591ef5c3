"""Multiply-accumulates of architectures and of ONNX models, against torch's counter and against each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, parser
from torch.utils.flop_counter import FlopCounterMode

from onnx_ghn.deepnets1m import Architecture, stream, symbolic_graph
from onnx_ghn.deepnets1m.export import network_model
from onnx_ghn.deepnets1m.network import Network
from onnx_ghn.errors import GraphError
from onnx_ghn.properties.macs import architecture_macs, model_macs

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"


def _architectures(split: str, count: int, whole: bool) -> list[Architecture]:
    """Small nets whose layers all lead to the output, or not."""
    found: list[Architecture] = []
    for architecture in stream(split, seed=7):
        architecture = architecture.replace(C=16)
        graph = symbolic_graph(architecture)
        if architecture.n_cells <= 8 and (len(graph.decoded_parameters()) == len(graph.parameters)) is whole:
            found.append(architecture)
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize("split", ["train", "bnfree", "search", "dense"])
def test_architectures_cost_what_torch_counts(split: str) -> None:
    for architecture in _architectures(split, 4, whole=True):
        with torch.device("meta"):
            net, image = Network(architecture).eval(), torch.zeros(1, 3, 32, 32)
        with FlopCounterMode(display=False) as counter:
            net(image)
        assert 2 * architecture_macs(architecture, symbolic_graph(architecture)) == counter.get_total_flops()


def test_exported_architectures_cost_as_much_branches_that_lead_nowhere_left_out() -> None:
    nets = [*_architectures("search", 2, whole=False), *_architectures("train", 1, whole=True)]
    nets.append(next(net for net in stream("train", seed=7) if net.genotype.is_vit).replace(n_cells=4, C=8))
    for architecture in nets:
        model = ir.serde.serialize_model(network_model(architecture))
        assert model_macs(model) == architecture_macs(architecture, symbolic_graph(architecture))


def test_a_model_is_left_as_it_is_and_counts_by_hand() -> None:
    model = _convolution(["batch", 3, 8, 8])
    before = model.SerializeToString()
    assert model_macs(model) == 5 * 3 * 3 * 3 * 6 * 6
    assert model.SerializeToString() == before


def test_a_function_counts_as_what_it_does(tmp_path: Path) -> None:
    inner = _convolution(["batch", 3, 8, 8])
    body = [helper.make_node("Conv", ["a", "b"], ["c"])]
    function = helper.make_function("own", "Layer", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)])
    inner.graph.node[0].domain, inner.graph.node[0].op_type = "own", "Layer"
    inner.functions.append(function)
    inner.opset_import.append(helper.make_opsetid("own", 1))
    onnx.save(inner, tmp_path / "m.onnx")
    assert model_macs(tmp_path / "m.onnx") == 5 * 3 * 3 * 3 * 6 * 6


def test_free_sizes_are_refused() -> None:
    with pytest.raises(GraphError, match=r"input x: dimension 2 is free.*`shapes`"):
        model_macs(_convolution(["batch", 3, "height", "width"]))


def test_free_sizes_that_are_given_count() -> None:
    model = _convolution(["batch", 3, "height", "width"])
    expected = 5 * 3 * 3 * 3 * 6 * 6
    assert model_macs(model, shapes={"x": (4, 3, 8, 8)}) == expected
    assert model_macs(model, sizes={"height": 8, "width": 8}) == expected
    with pytest.raises(GraphError, match="8×8 has 2 dimensions, input x has 4"):
        model_macs(model, shapes={"x": (8, 8)})


def test_a_loop_counts_as_often_as_it_turns() -> None:
    text = """
    < ir_version: 9, opset_import: ["" : 18] >
    turned (float[1, 8] x) => (float[1, 3] y)
    < int64 turns = {5}, bool on = {1} >
    {
      h = Loop (turns, on, x) < body = turn (int64 i, bool on_in, float[1, 8] before)
          => (bool on_out, float[1, 8] after) {
        after = MatMul (before, w)
        on_out = Identity (on_in)
      } >
      y = MatMul (h, v)
    }
    """
    model = parser.parse_model(text)
    for name, shape in (("w", (8, 8)), ("v", (8, 3))):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
    assert model_macs(model) == 5 * 8 * 8 + 8 * 3


def test_quantised_products_in_a_loop_count() -> None:
    text = """
    < ir_version: 9, opset_import: ["" : 18] >
    turned (float[1, 8] x) => (float[1, 8] y)
    < int64 turns = {5}, bool on = {1} >
    {
      h = Loop (turns, on, x) < body = turn (int64 i, bool on_in, float[1, 8] before)
          => (bool on_out, float[1, 8] after) {
        whole, scale, zero = DynamicQuantizeLinear (before)
        sums = MatMulInteger (whole, w, zero)
        floats = Cast <to = 1> (sums)
        after = Mul (floats, scale)
        on_out = Identity (on_in)
      } >
      y = Relu (h)
    }
    """
    model = parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 8), np.int8), "w"))
    assert model_macs(model) == 5 * 8 * 8


@pytest.mark.parametrize("batch", [1, 4])
def test_a_graph_that_reshapes_to_its_own_batch_costs_its_share(batch: int) -> None:
    """JAX writes sizes into the graph: a batch of one would contradict them."""
    shape = numpy_helper.from_array(np.array([batch * 6, 5]), "shape")
    weight = numpy_helper.from_array(np.zeros((5, 7), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["rows"]), helper.make_node("MatMul", ["rows", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 6, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [shape, weight],
    )
    assert model_macs(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)) == 6 * 5 * 7


@pytest.mark.parametrize(
    ("name", "hidden", "rest"), [("gpt_like", 512, 32 * 128 * 1000), ("bert_like", 384, 128 * 128 + 128 * 2)]
)
def test_language_models_whose_masks_are_arithmetic_are_counted(name: str, hidden: int, rest: int) -> None:
    """Four layers of width 128 on 32 tokens, and what follows them."""
    tokens, width = 32, 128
    layer = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    assert model_macs(EXAMPLES / f"{name}.onnx") == 4 * layer + rest


def _convolution(dims: list[str | int]) -> onnx.ModelProto:
    weight = helper.make_tensor("w", TensorProto.FLOAT, (5, 3, 3, 3), [0.1] * 135)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
