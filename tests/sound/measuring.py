"""What a prediction computes, beside what the file computes as its author initialised it: by onnxruntime on both files.

The file's own weights (or three draws of the standard initialisation, where it has none) are run with batch norms that
use the statistics of the batch. What `predict` writes is run as it is. Both see the same seeded input.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from batch_norms import with_batch_statistics
from networks import Network
from predict_models import arrays, session

from onnx_ghn import predict
from onnx_ghn.ghn import GHN
from onnx_ghn.graph import Role
from onnx_ghn.graph.builder import graph_of
from onnx_ghn.images.dead_leaves import dead_leaves
from onnx_ghn.onnx_io import inject, write_model
from onnx_ghn.passes import open_model
from onnx_ghn.prediction.fallback import standard_init
from onnx_ghn.prediction.predicting import resolve_ghn

__all__ = ["Outcome", "measured"]

FAR = 10.0  # a scale that differs by more has to be explained
LOSS_LIMIT = 3.0  # times that of a uniform guess
_TINY = 1e-12
_DRAWS = 3  # standard initialisations, whose scale differs where an output has few elements
_TOKENS = 100  # tokens are below this
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Shares are of the trainable elements, scales root mean squares of the first output of floats."""

    name: str
    group: str
    predicted: float
    kept: float
    scale_before: float
    scale_after: float
    loss_before: float | None
    loss_after: float | None
    scaled: str
    problems: tuple[str, ...]  # what is out of the limits


@functools.cache
def _ghn() -> GHN:
    return resolve_ghn(None)


def measured(network: Network, folder: Path) -> Outcome:
    """Make a network's file, predict on it with default options, and run both."""
    own, new = folder / "own.onnx", folder / "new.onnx"
    network.make(own)
    prediction = predict(own, new, ghn=_ghn(), policy="all", force=True)
    coverage = prediction.coverage
    feed = _feed(new, network)
    after = _run(new, feed)
    drawn = []
    for seed in range(_DRAWS) if network.stripped else (0,):
        (_write_standard if network.stripped else _write_own)(own, folder / "before.onnx", seed)
        drawn.append(_run(folder / "before.onnx", feed))
    before = drawn[0]
    problems = [
        f"{name} has {int((~np.isfinite(y)).sum())} elements that are not finite"
        for name, y in after.items()
        if not np.isfinite(y).all()
    ]
    scales = {
        name: (_scale(_comparable([run[name] for run in drawn], network)), _scale(_comparable([after[name]], network)))
        for name in after
        if after[name].dtype.kind == "f" and after[name].size and before[name].size
    }
    problems += [
        f"the scale of {name} goes from {old:.3g} to {now:.3g}"
        for name, (old, now) in scales.items()
        if not old / FAR <= now <= old * FAR and not _begins_at_zero(old, network)
    ]
    loss_before = loss_after = None
    if network.classes:
        loss_before, loss_after = (_loss(next(iter(run.values())), network.classes) for run in (before, after))
        if not loss_after <= (limit := LOSS_LIMIT * math.log(next(iter(after.values())).shape[-1])):
            problems.append(f"the first loss is {loss_after:.3g}, above {limit:.3g}")
    n_elements = [coverage.n_elements(outcome) for outcome in ("predicted", "fallback", "kept")]  # type: ignore[arg-type]
    if sum(n_elements) != coverage.n_trainable:
        problems.append("the outcomes do not add up to the trainable elements")
    problems += _changed(own, new, network.stays, set(prediction), coverage)
    found = [re.match(r"(\d+) tensors? (?:is|are) scaled, by ([^:]+)", note) for note in coverage.notes]
    first = next(iter(scales.values()), (math.nan, math.nan))
    return Outcome(
        network.name,
        network.group,
        coverage.share("predicted"),
        coverage.share("kept"),
        *first,
        loss_before,
        loss_after,
        next((f"{m[1]}, × {m[2]}" for m in found if m), ""),
        tuple(problems),
    )


def _changed(own: Path, new: Path, stays: str, filled: set[str], coverage: Any) -> list[str]:
    """Stored tensors that had to stay and did not: those of the expression, and all that the report does not name."""
    if not stays:
        return []
    old, now = arrays(onnx.load(own)), arrays(onnx.load(new))
    statistics = {entry.parameter.name for entry in coverage.entries if entry.outcome == "statistic"}
    fixed = {name for name in old if re.search(stays, name)} or {"no tensor matches the expression"}
    scales = {
        node.input[1]
        for node in onnx.load(own).graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in filled
    }
    fixed |= old.keys() - filled - statistics - scales
    return [f"{name} did not stay" for name in sorted(fixed) if not _same(old.get(name), now.get(name))]


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return False
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _write_own(source: Path, path: Path, _: int) -> None:
    onnx.save(with_batch_statistics(onnx.load(source)), path)


def _write_standard(source: Path, path: Path, seed: int) -> None:
    """A stripped file with the standard initialisation of all its tensors."""
    opened = open_model(source)
    graph = graph_of(opened.model, opened.stored, _ghn().config.graph_rules)
    tensors = {}
    for parameter in graph.parameters:
        values = standard_init(parameter, seed)
        if parameter.role is Role.statistic:  # a mean of 0 and a variance of 1 where the batch's are not taken
            values = np.full(parameter.shape, float("mean" not in parameter.name), np.float32)
        if values is not None:
            dtype = opened.stored[parameter.name].dtype.numpy()
            tensors[parameter.name] = functools.partial(np.asarray, values.astype(dtype))
    inject(opened.model, tensors, opened.stored)
    write_model(opened.model, path, force=True)
    onnx.save(with_batch_statistics(onnx.load(path)), path)


def _feed(path: Path, network: Network) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feed = {}
    for value in session(path).get_inputs():
        shape = [
            dim if isinstance(dim, int) and dim > 0 else (network.free if i else network.batch)
            for i, dim in enumerate(value.shape)
        ]
        dtype = _TYPES[value.type]
        if np.issubdtype(dtype, np.floating) and len(shape) == 4 and shape[1] == 3:
            feed[value.name] = dead_leaves(*shape, np.random.default_rng(1)).astype(dtype)
        elif np.issubdtype(dtype, np.floating):
            feed[value.name] = rng.standard_normal(shape).astype(dtype)
        elif "mask" in value.name:
            feed[value.name] = np.ones(shape, dtype)
        else:
            high = _TOKENS if re.search("ids|tokens|text", value.name) and "type" not in value.name else 2
            feed[value.name] = rng.integers(0, high, shape).astype(dtype)
    return feed


def _run(path: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    runtime = session(path)
    names = [value.name for value in runtime.get_outputs() if value.type.startswith("tensor")]
    return dict(zip(names, map(_without_ends_of_one, runtime.run(names, feed)), strict=True))


def _without_ends_of_one(y: np.ndarray) -> np.ndarray:
    """N × classes of N × classes × 1 × 1, as networks that end with a convolution give it."""
    return y[..., 0, 0] if y.shape[2:] == (1, 1) else y


def _scale(y: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(y.astype(np.float64)))))


def _begins_at_zero(scale: float, network: Network) -> bool:
    """Whether its author lets a classifier begin with logits of zero. There is no scale to compare with; the first loss
    tells what is sensible.
    """
    return scale <= _TINY and bool(network.classes)


def _comparable(outputs: list[np.ndarray], network: Network) -> np.ndarray:
    """Outputs whose scale tells how large a network's values are: logits in the place of probabilities."""
    if network.classes != "probabilities":
        return np.stack(outputs)
    logs = _log_probabilities(np.stack(outputs), "probabilities")
    return logs - logs.mean(-1, keepdims=True)


def _log_probabilities(y: np.ndarray, classes: str) -> np.ndarray:
    given = y.astype(np.float64)
    if classes == "probabilities":
        return np.log(np.maximum(given, 1e-30))
    shifted = given - given.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _loss(y: np.ndarray, classes: str) -> float:
    """Mean cross entropy with labels drawn at random."""
    logs = _log_probabilities(y.reshape(-1, y.shape[-1]), classes)
    labels = np.random.default_rng(1).integers(0, logs.shape[1], len(logs))
    return float(-logs[np.arange(len(logs)), labels].mean())
