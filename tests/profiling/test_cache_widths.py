"""The width of a head's keys is told by the attention that reads them, where the file names it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn.profiling.cache_inputs import cache_inputs
from onnx_ghn.profiling.cache_widths import cache_width
from onnx_ghn.profiling.specs import model_spec

HEADS, KV_HEADS, WIDTH, WORDS = 4, 2, 8, 11
N = helper.make_node
MS = {"domain": "com.microsoft"}


def _value(name: str, kind: int, *shape: object) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def decoder() -> onnx.ModelProto:
    """One layer as onnxruntime-genai's builder writes it, without shapes between the operators."""
    rng = np.random.default_rng(0)
    width = HEADS * WIDTH
    stored = {
        "table": rng.standard_normal((WORDS, width), dtype=np.float32),
        "qkv": rng.standard_normal((width, (HEADS + 2 * KV_HEADS) * WIDTH), dtype=np.float32),
        "head": rng.standard_normal((width, WORDS), dtype=np.float32),
        "bias": np.ones((HEADS + 2 * KV_HEADS) * WIDTH, np.float32),
        "one": np.array([1], np.int64),
        "at": np.array(1, np.int64),
    }
    nodes = [
        N("ReduceSum", ["attention_mask", "one"], ["seen"]),
        N("Sub", ["seen", "one"], ["less"]),
        N("Cast", ["less"], ["last"], to=TensorProto.INT32),
        N("Shape", ["attention_mask"], ["sizes"]),
        N("Gather", ["sizes", "at"], ["length"]),
        N("Cast", ["length"], ["total"], to=TensorProto.INT32),
        N("Gather", ["table", "input_ids"], ["x"]),
        N("MatMul", ["x", "qkv"], ["projected"]),
        N("Add", ["projected", "bias"], ["q"]),
        N(
            "GroupQueryAttention",
            ["q", "", "", "past_key_values.0.key", "past_key_values.0.value", "last", "total"],
            ["a", "present.0.key", "present.0.value"],
            num_heads=HEADS,
            kv_num_heads=KV_HEADS,
            **MS,
        ),
        N("MatMul", ["a", "head"], ["logits"]),
    ]
    ids, kind = TensorProto.INT64, TensorProto.FLOAT
    cache = ("batch_size", KV_HEADS, "past_sequence_length", "kv_cache_dim")
    graph = helper.make_graph(
        nodes,
        "decoder",
        [
            _value("input_ids", ids, "batch_size", "sequence_length"),
            _value("attention_mask", ids, "batch_size", "total_sequence_length"),
            *(_value(f"past_key_values.0.{name}", kind, *cache) for name in ("key", "value")),
        ],
        [_value(name, kind, None, None, None) for name in ("logits",)]
        + [_value(f"present.0.{name}", kind, None, None, None, None) for name in ("key", "value")],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9)


def test_a_file_that_names_the_width_is_run_with_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(decoder(), path)
    specs = {spec.name: spec for spec in model_spec(path).inputs}
    assert specs["past_key_values.0.key"].dims == (None, KV_HEADS, None, WIDTH)
    assert specs["past_key_values.0.value"].dims == (None, KV_HEADS, None, WIDTH)
    cache = cache_inputs(list(specs.values()))
    assert cache is not None
    feed = cache.feed(5, 1)  # nobody says what kv_cache_dim is
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits, key = session.run(["logits", "present.0.key"], feed)
    assert logits.shape == (1, 1, WORDS)
    assert key.shape == (1, KV_HEADS, 6, WIDTH)


@pytest.mark.parametrize(
    ("node", "shapes", "expected"),
    [
        (
            N("GroupQueryAttention", ["q", "k", "v", "c", "d"], ["y"], num_heads=4, kv_num_heads=2, **MS),
            {"q": [1, 3, 32], "k": [1, 3, 16], "v": [1, 3, 16]},
            8,
        ),
        (
            N("GroupQueryAttention", ["q", "", "", "c", "d"], ["y"], num_heads=4, kv_num_heads=2, **MS),
            {"q": [1, 3, 64]},
            8,
        ),
        (
            N("GroupQueryAttention", ["q", "", "", "c", "d"], ["y"], num_heads=4, kv_num_heads=2, **MS),
            {"q": [1, 3, 63]},
            None,
        ),
        (N("GroupQueryAttention", ["q", "", "", "c", "d"], ["y"], num_heads=4, kv_num_heads=2, **MS), {}, None),
        (
            N("MultiHeadAttention", ["q", "k", "v", "", "", "", "c", "d"], ["y"], num_heads=4, **MS),
            {"q": [1, 3, 32], "k": [1, 3, 32], "v": [1, 3, 32]},
            8,
        ),
        (
            N("Attention", ["q", "k", "v", "", "c", "d"], ["y"], q_num_heads=4, kv_num_heads=2),
            {"q": [1, 3, 32], "k": [1, 3, 16], "v": [1, 3, 16]},
            8,
        ),
        (
            N("Attention", ["q", "k", "v", "", "c", "d"], ["y"]),
            {"q": [1, 4, 3, 6], "k": [1, 2, 3, 6], "v": [1, 2, 3, 6]},
            6,
        ),
        (N("Concat", ["c", "d"], ["y"], axis=2), {}, None),
    ],
)
def test_the_width_by_the_operator_that_reads_the_cache(
    node: onnx.NodeProto, shapes: dict[str, list[int]], expected: int | None
) -> None:
    given = [_value(name, TensorProto.FLOAT, *shape) for name, shape in shapes.items()]
    given += [_value(name, TensorProto.FLOAT, *([None] * 3)) for name in "qkv" if name not in shapes]
    given += [_value(name, TensorProto.FLOAT, 1, 2, "past", "width") for name in "cd"]
    graph = helper.make_graph([node], "m", given, [_value("y", TensorProto.FLOAT, None, None, None)])
    domains = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=domains))
    inputs = {value.name: value for value in model.graph.inputs}
    assert [cache_width(inputs[name]) for name in "cd"] == [expected, expected]


@pytest.mark.parametrize("n_columns", [64, 0])
def test_the_width_of_quantised_projections(n_columns: int) -> None:
    nodes = [
        N("MatMulNBits", ["x", "w", "s"], ["q"], K=32, N=n_columns, bits=4, block_size=32, **MS),
        N("GroupQueryAttention", ["q", "", "", "c", "d"], ["y"], num_heads=4, kv_num_heads=2, **MS),
    ]
    given = [_value("x", TensorProto.FLOAT, 1, 3, 32), _value("w", TensorProto.UINT8, 64, 1, 16)]
    given += [_value("s", TensorProto.FLOAT, 64)]
    given += [_value(name, TensorProto.FLOAT, 1, 2, "past", "width") for name in "cd"]
    graph = helper.make_graph(nodes, "m", given, [_value("y", TensorProto.FLOAT, None, None, None)])
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=domains))
    (cache,) = [value for value in model.graph.inputs if value.name == "c"]
    assert cache_width(cache) == (8 if n_columns else None)
