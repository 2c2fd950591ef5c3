"""Decoders with a key-value cache whose next token is known by hand: the sum of all tokens so far, modulo the words."""

from __future__ import annotations

import numpy as np
import onnx
from graph_models import Net
from onnx import TensorProto, helper, numpy_helper

WORDS = 50
INT = TensorProto.INT64


def _value(name: str, kind: int, *shape: object) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _number(name: str, value: object, dtype: object = np.int64) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value, dtype), name))


def sum_decoder(
    past: str = "past_key_values.0.key",
    present: str = "present.0.key",
    total: str = "past_sequence_length + sequence_length",
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """ids (b, s) and mask (b, total); the cache (b, 1, past, 1) holds the tokens themselves. The mask counts."""
    nodes = [
        _number("axes", [1, 3]),
        _number("all", [1, 2, 3]),
        helper.make_node("Cast", ["input_ids"], ["floats"], to=kind),
        helper.make_node("Unsqueeze", ["floats", "axes"], ["new"]),
        helper.make_node("Concat", [past, "new"], [present], axis=2),
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=kind),
        helper.make_node("Unsqueeze", ["seen", "axes"], ["seen4"]),
        helper.make_node("Mul", [present, "seen4"], ["masked"]),  # which fails where the mask has another length
        helper.make_node("ReduceSum", ["masked", "all"], ["sums"], keepdims=0),
        helper.make_node("Cast", ["sums"], ["whole"], to=INT),
        *_scores("whole"),
    ]
    inputs = [
        _value("input_ids", INT, "batch_size", "sequence_length"),
        _value("attention_mask", INT, "batch_size", total),
    ]
    inputs.append(_value(past, kind, "batch_size", 1, "past_sequence_length", 1))
    outputs = [_value("logits", TensorProto.FLOAT, None, None), _value(present, kind, None, 1, None, 1)]
    return _model(nodes, inputs, outputs)


def merged_decoder() -> onnx.ModelProto:
    """An encoder-decoder as optimum merges them: without a cache, the encoder's keys come from its states; with one,
    they come from the cache, and what is given for them is empty. The number of states is added to the sum."""
    empty = _number("nothing", np.zeros((0, 1, 0, 1)), np.float32)
    first = [
        helper.make_node("Identity", ["new"], ["a"]),
        helper.make_node("Unsqueeze", ["encoder_hidden_states", "one"], ["b"]),
        helper.make_node("Identity", ["b"], ["c"]),
    ]
    later = [
        helper.make_node("Concat", ["past_key_values.0.decoder.key", "new"], ["d"], axis=2),
        empty,
        helper.make_node("Identity", ["nothing"], ["e"]),
        helper.make_node("Identity", ["past_key_values.0.encoder.key"], ["f"]),
    ]
    branches = [
        helper.make_graph(nodes, name, [], [_value(one, TensorProto.FLOAT, None, None, None, None) for one in ends])
        for nodes, name, ends in ((first, "first", "abc"), (later, "later", "def"))
    ]
    nodes = [
        _number("axes", [1, 3]),
        _number("one", [1]),
        _number("all", [1, 2, 3]),
        helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "axes"], ["new"]),
        helper.make_node(
            "If",
            ["use_cache_branch"],
            ["present.0.decoder.key", "present.0.encoder.key", "states"],
            then_branch=branches[1],
            else_branch=branches[0],
        ),
        helper.make_node("ReduceSum", ["present.0.decoder.key", "all"], ["sums"], keepdims=0),
        helper.make_node("Shape", ["states"], ["n_states"], start=2, end=3),
        helper.make_node("Cast", ["sums"], ["whole"], to=INT),
        helper.make_node("Add", ["whole", "n_states"], ["more"]),
        *_scores("more"),
    ]
    inputs = [
        _value("input_ids", INT, "batch_size", "decoder_sequence_length"),
        _value("encoder_hidden_states", TensorProto.FLOAT, "batch_size", "encoder_sequence_length", 1),
        _value("past_key_values.0.decoder.key", TensorProto.FLOAT, "batch_size", 1, "past_decoder_sequence_length", 1),
        _value("past_key_values.0.encoder.key", TensorProto.FLOAT, "batch_size", 1, "encoder_sequence_length_out", 1),
        _value("use_cache_branch", TensorProto.BOOL, 1),
    ]
    outputs = [_value("logits", TensorProto.FLOAT, None, None)]
    outputs += [
        _value(f"present.0.{kind}.key", TensorProto.FLOAT, None, None, None, None) for kind in ("decoder", "encoder")
    ]
    return _model(nodes, inputs, outputs)


def grouped_decoder(words: int = WORDS, heads: int = 4, groups: int = 2, width: int = 16) -> onnx.ModelProto:
    """One layer of com.microsoft's GroupQueryAttention, whose lengths are inputs under names that say nothing."""
    net = Net(opset=17, ir_version=8)
    ids = net.input("batch_size", "sequence_length", name="input_ids", kind=INT)
    pasts = [
        net.input("batch_size", groups, "past_sequence_length", width, name=f"past_key_values.0.{kind}")
        for kind in ("key", "value")
    ]
    last = net.input("batch_size", name="a", kind=TensorProto.INT32)
    total = net.input(name="b", kind=TensorProto.INT32)
    x = net.op("Gather", net.weight(words, heads * width, name="table"), ids)
    q = net.linear(x, heads * width, heads * width, "q")
    k, v = (net.linear(x, heads * width, groups * width, name) for name in "kv")
    y, key, value = net.op(
        "GroupQueryAttention", q, k, v, *pasts, last, total, n=3, domain="com.microsoft", num_heads=heads,
        kv_num_heads=groups,
    )  # fmt: skip
    net.nodes[-1].output[1], net.nodes[-1].output[2] = "present.0.key", "present.0.value"
    logits = net.linear(y, heads * width, words, "head")
    assert (key, value) != ("present.0.key", "present.0.value")
    model = net.model(logits, "present.0.key", "present.0.value")
    model.graph.output[0].name = logits
    return model


def _scores(value: str) -> list[onnx.NodeProto]:
    return [
        _number("words", WORDS),
        _number("ends", [0.0, 1.0], np.float32),
        helper.make_node("Mod", [value, "words"], ["next"]),
        helper.make_node("OneHot", ["next", "words", "ends"], ["logits"]),
    ]


def _model(
    nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "net", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
