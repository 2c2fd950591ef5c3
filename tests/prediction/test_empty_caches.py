"""A decoder with a key-value cache runs on tokens alone: caches are empty, and masks are as long as the tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_ghn import predict
from onnx_ghn.prediction.calibration_inputs import input_batches
from onnx_ghn.prediction.empty_caches import has_caches, with_empty_caches

LLAMA = Path(__file__).parents[2] / "data" / "examples" / "llama_cache.onnx"


def test_tokens_and_a_cache_make_a_decoder() -> None:
    assert has_caches(["input_ids", "past_key_values.0.key"])
    assert not has_caches(["input_ids", "attention_mask"])
    assert not has_caches(["past_0", "state"])
    assert not has_caches(["decoder_input_ids", "past_key_values.0.encoder.key"])


def test_what_is_beside_the_tokens_has_their_length() -> None:
    ids = np.full((2, 7), 5, np.int64)
    feed = {
        "input_ids": ids,
        "attention_mask": np.zeros((2, 64), np.int64),
        "position_ids": np.zeros((2, 64), np.int64),
        "past_key_values.0.key": np.ones((2, 3, 64, 8), np.float16),
        "past_key_values.0.encoder.key": np.ones((2, 3, 9, 8), np.float16),
        "past_1": np.ones((2, 64, 16), np.float32),
        "seqlens_k": np.zeros(2, np.int32),
        "total_sequence_length": np.zeros((), np.int32),
        "other": np.ones((2, 4), np.float32),
    }
    declared = {name: [0, *array.shape[1:]] for name, array in feed.items() if array.ndim} | {
        "total_sequence_length": []
    }
    declared["past_key_values.0.key"][2] = 0
    declared["past_1"][1] = 0
    found = with_empty_caches(feed, declared)
    assert list(found) == list(feed)
    assert found["past_key_values.0.key"].shape == (2, 3, 0, 8)
    assert found["past_1"].shape == (2, 0, 16)
    np.testing.assert_array_equal(found["attention_mask"], np.ones((2, 7)))
    np.testing.assert_array_equal(found["position_ids"], [np.arange(7)] * 2)
    np.testing.assert_array_equal(found["seqlens_k"], [6, 6])
    assert found["total_sequence_length"] == 7
    for name in ("input_ids", "other", "past_key_values.0.encoder.key"):
        assert found[name] is feed[name]
    assert all(found[name].dtype == feed[name].dtype for name in feed)


def test_a_merged_decoder_takes_its_branch_without_a_cache_which_has_a_length_still() -> None:
    feed = {
        "input_ids": np.zeros((2, 7), np.int64),
        "attention_mask": np.ones((2, 1, 64, 64), np.float32),
        "past_key_values.0.key": np.ones((2, 64, 5, 8), np.float32),
        "use_cache_branch": np.ones(1, np.bool_),
    }
    declared = {
        "input_ids": [0, 0],
        "attention_mask": [0, 1, 0, 0],
        "past_key_values.0.key": [0, 0, 0, 8],
        "use_cache_branch": [1],
    }
    found = with_empty_caches(feed, declared)
    assert found["past_key_values.0.key"].shape == (2, 64, 1, 8)  # of several free axes the last but one
    np.testing.assert_array_equal(found["attention_mask"], np.zeros((2, 1, 7, 7)))  # added to the scores
    assert not found["use_cache_branch"].any()


def test_empty_caches_are_tried_first_and_full_ones_after_them() -> None:
    types = {"input_ids": "tensor(int64)", "past_0": "tensor(float)"}
    rounds = list(input_batches(types, {"input_ids": [0, 0], "past_0": [0, 2, 0, 8]}, "noise", 0, 4, {"input_ids": 9}))
    assert [feeds[0]["past_0"].shape for feeds in rounds][:1] == [(4, 2, 0, 8)]
    assert (4, 2, 64, 8) in [feeds[0]["past_0"].shape for feeds in rounds]


def _move_norms(path: Path) -> None:
    """Give the scales of norms values as training does: a file whose scales are all one is no donor."""
    model = onnx.load(path)
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if "norm" in tensor.name:
            values = numpy_helper.to_array(tensor)
            scaled = (values * rng.uniform(0.5, 1.5, values.shape)).astype(values.dtype)
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    onnx.save(model, path)


def test_a_decoder_with_a_cache_is_checked_and_compared_with_its_donor(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    donor = tmp_path / "donor.onnx"
    notes = predict(LLAMA, donor, fallback="standard", seed=3).coverage.notes
    assert not [note for note in notes if "not checked" in note or "calibration" in note]
    _move_norms(donor)
    told = predict(LLAMA, donors=[donor]).coverage.notes
    assert [note for note in told if note.startswith("outputs of donor.onnx are kept")], told
