"""Small models for the tests of onnx_io, in every form that exporters store tensors in."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F = TensorProto.FLOAT


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def info(name: str, *shape: int, kind: int = F) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, initializers=(), *, opset=17, ir_version=9, functions=(), sparse=()):
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, list(initializers), sparse_initializer=list(sparse))
    opsets = [helper.make_opsetid("", opset)]
    if functions:
        opsets.append(helper.make_opsetid("my", 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, functions=list(functions))


def init(name: str, *shape: int, seed: int = 0) -> onnx.TensorProto:
    return numpy_helper.from_array(array(*shape, seed=seed), name)


def mlp(width: int = 64, **kwargs) -> onnx.ModelProto:
    """Two MatMuls with a bias, its weights initializers."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first", doc_string="a stack trace"),
        helper.make_node("Add", ["h", "b1"], ["a"], name="bias"),
        helper.make_node("MatMul", ["a", "w2"], ["y"], name="second"),
    ]
    tensors = [init("w1", width, width, seed=1), init("b1", width, seed=2), init("w2", width, width, seed=3)]
    built = model(nodes, [info("x", 1, width)], [info("y", 1, width)], tensors, **kwargs)
    built.producer_name = "tests"
    helper.set_model_props(built, {"key": "value"})
    return built


def every_form() -> onnx.ModelProto:
    """A tensor of each kind: initializer, constants, constants of shape, in branches, in a function."""
    c = numpy_helper.from_array(array(64, 64, seed=4), "c")
    shape = numpy_helper.from_array(np.array([64, 64]), "s")
    function = helper.make_function(
        "my", "F", ["a"], ["b"],
        [helper.make_node("Constant", [], ["w"], value=c), helper.make_node("MatMul", ["a", "w"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    then = helper.make_graph(
        [helper.make_node("Constant", [], ["w"], value=c), helper.make_node("MatMul", ["h3", "w"], ["t"])],
        "then", [], [info("t", 1, 64)],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("MatMul", ["h3", "w"], ["e0"]), helper.make_node("Add", ["e0", "only"], ["e"])],
        "else", [], [info("e", 1, 64)], [init("w", 64, 64, seed=5), init("only", 64, seed=6)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["c"], value=c),
        helper.make_node("Constant", [], ["floats"], value_floats=[float(i) for i in range(64)]),
        helper.make_node("Constant", [], ["int"], value_int=7),
        helper.make_node("ConstantOfShape", ["s"], ["z"], value=helper.make_tensor("v", F, [1], [0.5])),
        helper.make_node("MatMul", ["x", "m"], ["h0"]),
        helper.make_node("MatMul", ["h0", "c"], ["h1"]),
        helper.make_node("Add", ["h1", "floats"], ["h2"]),
        helper.make_node("MatMul", ["h2", "z"], ["h3"]),
        helper.make_node("If", ["cond"], ["i"], then_branch=then, else_branch=other, name="if"),
        helper.make_node("F", ["i"], ["y"], domain="my"),
    ]
    inputs = [info("x", 1, 64), info("cond", kind=TensorProto.BOOL)]
    tensors = [init("m", 64, 64, seed=7), shape]
    return model(nodes, inputs, [info("y", 1, 64)], tensors, functions=[function])


def run(path_or_model, **feeds: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    source = path_or_model.SerializeToString() if hasattr(path_or_model, "SerializeToString") else str(path_or_model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def save_external(proto: onnx.ModelProto, path) -> None:
    onnx.save(proto, str(path), save_as_external_data=True, location=f"{path.name}.data", size_threshold=64)
