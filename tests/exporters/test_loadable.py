"""What an exporter wrote is loaded once: a file that no runtime loads is no export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from onnx_ghn.errors import GraphError
from onnx_ghn.exporters import pytorch
from onnx_ghn.exporters.loadable import check_loads


def model(op_type: str, domain: str = "", **attributes: object) -> onnx.ModelProto:
    w = numpy_helper.from_array(np.ones((3, 4), np.float32), "w")
    node = helper.make_node(op_type, ["x", "w"][: 1 + (op_type != "Transpose")], ["y"], domain=domain, **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph([node], "g", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [w])
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


BROKEN = {
    "permutation": ("Transpose", {"perm": [0, -2]}),  # as torch's first exporter writes of Mamba2
    "attribute": ("MatMul", {"no_such": 1}),
    "shapes": ("Gemm", {"transB": 1}),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_file_that_no_runtime_loads_is_refused(kind: str, on_disk: bool, tmp_path: Path) -> None:
    op_type, attributes = BROKEN[kind]
    proto = model(op_type, **attributes)
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(
        GraphError, match=r"torch 0 wrote a file that no runtime loads .*; export the model another way"
    ):
        check_loads(tmp_path / "m.onnx" if on_disk else proto, "torch 0")


@pytest.mark.parametrize("exporter", ["flax 0, jax2onnx 0", "torch 0"])
def test_types_that_processors_do_not_compute_in_are_named(exporter: str) -> None:
    """As of layers that compute in bfloat16; JAX has no other exporter."""
    proto = model("MatMul")
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    proto.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.BFLOAT16, (3, 4), np.ones(12)))
    with pytest.raises(GraphError, match=r"wrote a file that no runtime loads .*; let the model compute in float32"):
        check_loads(proto, exporter)
    with pytest.raises(GraphError, match=r"export the model another way" + ("$" if "jax" in exporter else ", such as")):
        check_loads(model("Gemm", transB=1), exporter)


def test_what_this_runtime_lacks_is_no_fault_of_the_file() -> None:
    check_loads(model("MatMul"), "torch 0")
    check_loads(model("Special", domain="my.domain"), "torch 0")


@pytest.mark.parametrize("kind", ["first", "both"])
def test_the_other_exporter_is_taken(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first one's file does not load, as of Mamba2."""
    import onnx_ghn.torch_export as torch_export

    plain = torch_export.module_to_file

    def broken(module: nn.Module, args: object, kwargs: object, path: Path, exporter: str, **options: object) -> None:
        plain(module, args, kwargs, path, exporter, **options)  # type: ignore[arg-type]
        if exporter == "torchscript" or kind == "both":
            proto = onnx.load(path)
            proto.graph.node[0].attribute.append(helper.make_attribute("no_such", 1))
            onnx.save(proto, path)

    monkeypatch.setattr(torch_export, "module_to_file", broken)
    if kind == "both":
        with pytest.raises(GraphError, match="no runtime loads"):
            pytorch.export(nn.Linear(3, 2), tmp_path / "m.onnx", torch.rand(1, 3))
        assert not (tmp_path / "m.onnx").exists()
    else:
        assert "dynamo" in pytorch.export(nn.Linear(3, 2), tmp_path / "m.onnx", torch.rand(1, 3)).exporter
