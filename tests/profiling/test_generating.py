"""Decoders with a cache: what is fed at each step, and the tokens that come, against sums by hand and whole runs."""

from __future__ import annotations

import json
from collections.abc import Callable

import cache_models as models
import numpy as np
import onnx
import onnxruntime
import pytest
from cli_tools import command, one_line
from graph_models import Net
from onnx import TensorProto

import onnx_ghn
from onnx_ghn import profile
from onnx_ghn.errors import OptionError
from onnx_ghn.profiling import generating
from onnx_ghn.profiling.cache_inputs import CacheInputs, cache_inputs
from onnx_ghn.profiling.generating import Decoder
from onnx_ghn.profiling.settings import Settings
from onnx_ghn.profiling.specs import InputSpec, model_spec

FAST = Settings(warmup=1, iterations=3, new_tokens=5)
WHOLE = Settings(warmup=0, iterations=2, operators=False, new_tokens=4)
Save = Callable[..., str]


def opened(path: str) -> tuple[CacheInputs, onnxruntime.InferenceSession]:
    cache = cache_inputs(model_spec(path).inputs)
    assert cache is not None
    return cache, onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def by_hand(prompt: np.ndarray, n_tokens: int, more: int = 0) -> list[list[int]]:
    """The next token is the sum of all before it, and `more`, modulo the words."""
    seen, found = prompt.astype(int), []
    for _ in range(n_tokens):
        token = (seen.sum(1) + more) % models.WORDS
        seen = np.concatenate([seen, token[:, None]], 1)
        found.append(token.tolist())
    return found


@pytest.mark.parametrize(
    ("past", "present", "total"),
    [
        ("past_key_values.0.key", "present.0.key", "past_sequence_length + sequence_length"),
        ("past_key_values.0.key", "present_key_values.0.key", "total_sequence_length"),
        ("past_0", "present_0", "total_sequence_length"),
        ("past_key_self_0", "present_key_self_0", "total"),
    ],
)
def test_tokens_are_those_by_hand(save: Save, past, present, total) -> None:
    cache, session = opened(save(models.sum_decoder(past, present, total)))
    found = Decoder(session, cache, batch=3).generate(7, 6, seed=2)
    prompt = cache.feed(0, 7, batch=3, seed=2)["input_ids"]
    assert [token.tolist() for token in found.tokens] == by_hand(prompt, 6)
    assert len(found.decode_ns) == 5
    assert (found.cache_bytes, found.end_bytes) == (3 * 7 * 4, 3 * 12 * 4)
    assert 0 < found.prefill_ns <= found.first_ns


def test_the_cache_on_a_device(save: Save, monkeypatch) -> None:
    """I/O binding, as for a GPU, with the processor in its place."""
    cache, session = opened(save(models.sum_decoder(kind=TensorProto.FLOAT16)))
    decoder = Decoder(session, cache, batch=2)
    plain = decoder.generate(4, 5)
    decoder._device = ("cpu", 0)
    bound = decoder.generate(4, 5)
    np.testing.assert_array_equal(bound.tokens, plain.tokens)
    assert (bound.cache_bytes, bound.end_bytes) == (plain.cache_bytes, plain.end_bytes) == (2 * 4 * 2, 2 * 8 * 2)


def test_an_encoder_decoder_of_two_branches(save: Save) -> None:
    """Its encoder's keys stay those of the first run, though later runs give them empty."""
    cache, session = opened(save(models.merged_decoder()))
    found = Decoder(session, cache, batch=2).generate(3, 5, seed=1)
    prompt = cache.feed(0, 3, batch=2, seed=1)["input_ids"]
    assert [token.tolist() for token in found.tokens] == by_hand(prompt, 5, more=64)
    found = Decoder(session, cache, 2, {"encoder_sequence_length": 9}).generate(3, 5, seed=1)
    prompt = cache.feed(0, 3, batch=2, sizes={"encoder_sequence_length": 9}, seed=1)["input_ids"]
    assert [token.tolist() for token in found.tokens] == by_hand(prompt, 5, more=9)


def test_a_file_for_one_token_and_a_cache(save: Save) -> None:
    cache, session = opened(save(models.sum_decoder(total="past_sequence_length + 1")))
    assert not cache.prefills
    feed = cache.feed(6, 1, seed=4)
    found = Decoder(session, cache).generate(6, 3, seed=4)
    assert found.prefill_ns == 0
    assert len(found.tokens) == len(found.decode_ns) == 3
    past = feed["past_key_values.0.key"].sum()  # the cache is random, so that its sum is no whole number
    assert found.tokens[0] == int(past + found_first(feed)) % models.WORDS


def found_first(feed: dict[str, np.ndarray]) -> int:
    return int(feed["input_ids"][0, 0])


def rerun(session: onnxruntime.InferenceSession, cache: CacheInputs, prompt: np.ndarray, n_tokens: int) -> list[int]:
    """The tokens without a cache: everything from the begin each time."""
    name = next(spec.name for spec in cache.specs if cache.roles[spec.name] == "tokens")
    seen, found = prompt, []
    for _ in range(n_tokens):
        feed = cache.feed(0, seen.shape[1]) | {name: seen}
        token = session.run(None, feed)[0][:, -1].argmax(-1)
        seen = np.concatenate([seen, token[:, None]], 1)
        found.append(int(token[0]))
    return found


def test_grouped_attention_with_lengths(save: Save) -> None:
    """Lengths are known by the operator that reads them. With a cache the tokens are those without one."""
    cache, session = opened(save(models.grouped_decoder()))
    assert (cache.roles["a"], cache.roles["b"]) == ("last", "total")
    feed = cache.feed(5, 2, batch=3)
    np.testing.assert_array_equal(feed["a"], [6, 6, 6])
    assert feed["b"].shape == ()
    assert feed["b"] == 7
    found = Decoder(session, cache).generate(6, 8, seed=3)
    expected = rerun(session, cache, cache.feed(0, 6, seed=3)["input_ids"], 8)
    assert [int(token[0]) for token in found.tokens] == expected
    assert len(set(expected)) > 2
    assert found.cache_bytes == 2 * 2 * 6 * 16 * 4


def test_the_bundled_llama(examples, tmp_path) -> None:
    target = tmp_path / "llama.onnx"
    onnx_ghn.predict(examples / "llama_cache.onnx", target, policy="none", calibrate="none", seed=5)
    cache, session = opened(str(target))
    found = Decoder(session, cache).generate(12, 10, seed=1)
    expected = rerun(session, cache, cache.feed(0, 12, seed=1)["input_ids"], 10)
    assert [int(token[0]) for token in found.tokens] == expected
    assert len(set(expected)) > 2
    assert found.cache_bytes == 2 * 2 * 2 * 12 * 32 * 4  # layers, keys and values, heads, tokens, width, bytes


def spec(name: str, dtype: str, *dims: int | str | None) -> InputSpec:
    numbers = tuple(dim if isinstance(dim, int) else None for dim in dims)
    return InputSpec(name, dtype, numbers, symbols=tuple(dim if isinstance(dim, str) else None for dim in dims))


IDS = spec("input_ids", "int64", "batch", "sequence")
KEY = spec("past_key_values.0.key", "float16", "batch", 2, "past_sequence", 8)


def test_what_goes_with_the_tokens() -> None:
    others = [
        spec("attention_mask", "float32", "batch", 1, "sequence", "total"),
        spec("position_ids", "int32", 3, "batch", "sequence"),
        spec("cache_position", "int64", "sequence"),
        spec("past_sequence_length", "int64", 1),
        spec("logits_to_keep", "int64"),
        spec("token_type_ids", "int64", "batch", "sequence"),
        spec("encoder_attention_mask", "int64", "batch", "encoder_sequence"),
    ]
    cache = cache_inputs([IDS, KEY, *others])
    assert cache is not None
    feed = cache.feed(4, 3, batch=2)
    assert feed["past_key_values.0.key"].shape == (2, 2, 4, 8)
    assert feed["past_key_values.0.key"].dtype == np.float16
    np.testing.assert_array_equal(feed["attention_mask"], np.zeros((2, 1, 3, 7)))
    np.testing.assert_array_equal(feed["position_ids"], np.broadcast_to([4, 5, 6], (3, 2, 3)))
    np.testing.assert_array_equal(feed["cache_position"], [4, 5, 6])
    np.testing.assert_array_equal(feed["past_sequence_length"], [4])
    assert feed["logits_to_keep"] == 1
    np.testing.assert_array_equal(feed["token_type_ids"], np.zeros((2, 3)))
    np.testing.assert_array_equal(feed["encoder_attention_mask"], np.ones((2, 64)))
    step = cache.step(7, np.array([5, 6]))
    np.testing.assert_array_equal(step["input_ids"], [[5], [6]])
    np.testing.assert_array_equal(step["position_ids"], np.full((3, 2, 1), 7))
    assert step["attention_mask"].shape == (2, 1, 1, 8)


@pytest.mark.parametrize(
    ("specs", "shape"),
    [
        ([KEY], (2, 2, 5, 8)),
        ([spec("past_0", "float32", 2, "batch", 4, "past_seq", 8)], (2, 2, 4, 5, 8)),
        ([spec("past_key_values.0", "float32", "batch", "past", 16)], (2, 5, 16)),
        ([spec("past_key_values.0.key", "float32", None, 4, None, 8)], (2, 4, 5, 8)),
        ([spec("past_conv.0", "float32", "batch", 16, 3)], (2, 16, 3)),  # a state, which has no tokens
        ([spec("past_key_values.0.key", "float32", 1, 4, 64, 8)], (1, 4, 64, 8)),
    ],
)
def test_shapes_of_caches(specs, shape) -> None:
    cache = cache_inputs([IDS, *specs])
    assert cache is not None
    assert cache.feed(5, 1, batch=2)[specs[0].name].shape == shape


def test_shapes_are_known_without_drawing_a_cache() -> None:
    cache = cache_inputs([IDS, KEY])
    assert cache is not None
    drawn, told = cache.feed(9, 1), cache.feed(9, 1, drawn=False)
    assert {name: (array.dtype, array.shape) for name, array in told.items()} == {
        name: (array.dtype, array.shape) for name, array in drawn.items()
    }
    assert told[KEY.name].strides == (0,) * 4


def test_models_without_a_cache() -> None:
    assert cache_inputs([IDS]) is None
    assert cache_inputs([KEY]) is None
    series = [spec("past_values", "float32", "batch", 24), spec("past_time_features", "float32", "batch", 24, 2)]
    assert cache_inputs([IDS, *series]) is None
    cache = cache_inputs([IDS, spec("past_key_values.0.key", "float32", "batch", "heads", "past", 8)])
    assert cache is not None
    with pytest.raises(OptionError, match="nothing tells the size of dimension 1; give that of heads in `size`"):
        cache.feed(3, 1)
    assert cache.feed(3, 1, sizes={"heads": 6})["past_key_values.0.key"].shape == (1, 6, 3, 8)
    with pytest.raises(OptionError, match=r"no output present\.0\.key is fed back"):
        cache.presents(["logits", "present.1.key"])


def test_a_report(save: Save) -> None:
    path = save(models.sum_decoder())
    report = profile(path, batch=[2], threads=[1], context=[4, 9], settings=FAST, trace=True)
    assert report.errors == []
    assert [point.point.label for point in report.points] == [
        "CPU, 1 thread, batch 2, context 4",
        "CPU, 1 thread, batch 2, context 9",
    ]
    for point, context in zip(report.points, (4, 9), strict=True):
        found = point.generation
        assert (found.context, found.new_tokens, found.n_generations) == (context, 5, 3)
        assert point.latency.n_runs == 3 * 4
        assert found.cache_bytes == 2 * context * 4
        assert found.cache_bytes_at_end == 2 * (context + 4) * 4
        assert found.cache_bytes_per_token == 8
        assert 0 < found.prefill_ms <= found.time_to_first_token_ms <= found.time_to_first_token_p95_ms
        assert found.decode_p50_ms == pytest.approx(point.latency.p50_ms)
        assert found.decode_tokens_per_s == pytest.approx(2e3 / point.latency.mean_ms)
        assert found.prefill_tokens_per_s == pytest.approx(2e3 * context / found.prefill_ms)
        # Operators are those of one token behind the prompt.
        shapes = {info.name: info.shape for info in point.inputs}
        assert shapes["attention_mask"] == (2, context + 1)
        assert any(operator.op_type == "Concat" for operator in point.operators.operators)
        assert point.memory.peak_bytes > 0
    assert {event["pid"] for event in report.trace_events} == {1, 2}


def test_a_cache_is_found_without_being_told(save: Save) -> None:
    path = save(models.sum_decoder())
    (point,) = profile(path, threads=[1], settings=WHOLE).points
    assert point.generation.context == 128
    (point,) = profile(path, threads=[1], size=[("past_sequence_length", [3])], settings=WHOLE).points
    assert point.generation is None
    (point,) = profile(path, threads=[1], context=[6], estimate=True).points
    assert point.generation is None
    assert {info.name: info.shape for info in point.inputs}["attention_mask"] == (1, 7)


def test_two_decoders_in_turn(save: Save) -> None:
    path, other = save(models.sum_decoder()), save(models.sum_decoder("past_0", "present_0"), "b.onnx")
    report = profile(path, against=other, threads=[1], context=[5], settings=WHOLE)
    assert report.errors == []
    assert report.ratios[0].n_pairs == 2
    assert report.against_points[0].generation.context == 5


def test_a_run_that_fails_is_one_line(save: Save, monkeypatch) -> None:
    """The model divides the cache into pieces of four, which a fifth token does not fit."""
    model = models.sum_decoder()
    at = next(i for i, node in enumerate(model.graph.node) if node.op_type == "ReduceSum")
    pieces = onnx.helper.make_node("Reshape", ["masked", "four"], ["pieces"])
    model.graph.node.insert(at, pieces)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 1, -1, 4], np.int64), "four"))
    model.graph.node[at + 1].input[0] = "pieces"
    report = profile(save(model), threads=[1], context=[4], settings=WHOLE)
    assert "context 4: onnxruntime cannot run the model" in report.errors[0]


def test_command(save: Save, tmp_path) -> None:
    path = save(models.sum_decoder())
    quick = ("--threads", "1", "--iterations", "2", "--warmup", "0", "--no-operators", "--new-tokens", "3")
    outcome = command("profile", path, *quick, "--context", "4,16", "--csv", tmp_path / "a.csv")
    assert outcome.code == 0, outcome.err
    for word in ("first token", "prefill", "decode", "tokens/s", "at the end", "3 tokens behind each prompt"):
        assert word in outcome.out
    rows = (tmp_path / "a.csv").read_text().splitlines()
    assert "cache_bytes_at_end" in rows[0].split(",")
    outcome = command("profile", path, *quick, "--json", "--fail-below", "decode_tokens_per_s=1e12")
    assert outcome.code == 3
    assert json.loads(outcome.out)["points"][0]["generation"]["context"] == 128


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--context", "0"), "0"),
        (("--context", "4,x"), "is no number"),
        (("--new-tokens", "1"), "1"),
        (("--context", "4", "--streams", "2"), "leave --streams out"),
        (("--context", "4", "--shape", "input_ids:1x3"), "leave --shape out"),
        (("--context", "4", "--inputs", "x.npz"), "leave --inputs out"),
        (("--context", "4", "--one-session"), "leave --one-session out"),
        (("--context", "4", "--size", "heads=3"), "no input has that symbol"),
        (("--context", "999999999"), "more than half of this machine's memory"),
        (
            ("--context", "4", "--against", "plain.onnx"),
            "--context 4: the model takes no tokens with a key-value cache",
        ),
        (("--size", "sequence_length=3", "--fail-above", "decode_p50_ms=3"), "no text is generated"),
    ],
)
def test_bad_options(save: Save, tmp_path, monkeypatch, options, words) -> None:
    path = save(models.sum_decoder())
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    net = Net()
    (tmp_path / "plain.onnx").write_bytes(net.model(net.op("Relu", net.input(1, 3))).SerializeToString())
    one_line(command("profile", path, "--threads", "1", "--iterations", "2", *options), words)


def test_a_whole_generation_is_at_least_measured(save: Save, monkeypatch) -> None:
    """However short the time."""
    monkeypatch.setattr(generating, "_WARM_TOKENS", 2)
    settings = Settings(seconds=1e-9, warmup=1, operators=False, new_tokens=2)
    (point,) = profile(save(models.sum_decoder()), threads=[1], context=[3], settings=settings).points
    assert (point.generation.n_generations, point.latency.n_runs) == (1, 1)
