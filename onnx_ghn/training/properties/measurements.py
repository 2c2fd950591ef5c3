"""Measurements, features and baselines of networks, gathered into tables; tables of results for people."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from onnx_ghn.deepnets1m import Architecture, symbolic_graph
from onnx_ghn.errors import DataError
from onnx_ghn.ghn import GHN
from onnx_ghn.json_types import Json, JsonView
from onnx_ghn.onnx_io import write_file
from onnx_ghn.properties.features import STATISTICS, Floats, graph_embeddings, graph_statistics
from onnx_ghn.properties.macs import architecture_macs
from onnx_ghn.properties.predictor import PROPERTIES
from onnx_ghn.training.nets.networks import choose
from onnx_ghn.training.properties.fitting import Table
from onnx_ghn.training.properties.ground_truth import convergence_steps
from onnx_ghn.training.properties.speed import fastest_ms

__all__ = ["SPLITS", "gather", "markdown", "put_table", "read_measurements", "tables", "write_measurements"]

SPLITS = ("val", "test")  # to fit on, to test on
_TARGETS = ("accuracy", "noisy_accuracy", "latency_ms", "convergence_steps")
_GHN = "GHN-predicted accuracy"
_MARKS = ("<!-- table -->", "<!-- end of table -->")


def gather(folder: Path, threshold: float) -> Json:
    """All that `measure` has left in a folder: settings, and what each network that was trained was measured as.

    Args:
        threshold: percent of training batches, at which a network has converged.

    Raises:
        DataError: nothing in the folder, a damaged file, or splits that were measured differently.
    """
    settings: dict[str, Any] = {}
    found: dict[str, dict[str, float]] = {}
    for split in SPLITS:
        told, training = _read(folder / f"training-{split}.jsonl")
        settings |= _same(settings, told, folder)
        for name, record in training.items():
            steps = convergence_steps(record["train_top1"], threshold, int(told["steps"]))
            found[name] = {
                "accuracy": record["top1"],
                "noisy_accuracy": record["noisy_top1"],
                "convergence_steps": steps,
            }
        if (folder / f"ghn-{split}.jsonl").exists():
            for name, record in _read(folder / f"ghn-{split}.jsonl")[1].items():
                found.get(name, {})[_GHN] = record["top1"]
        if (folder / f"speed-{split}.jsonl").exists():
            told, visits = _read(folder / f"speed-{split}.jsonl")
            settings |= {"latency_batch": told["latency_batch"]}
            for name in training:
                rounds = [visit for key, visit in visits.items() if key.rsplit("/", 1)[0] == name]
                if rounds:
                    found[name]["latency_ms"] = fastest_ms(rounds)
    return {"settings": settings | {"threshold": threshold}, "networks": found}


def write_measurements(measured: JsonView, path: Path) -> None:
    """One line of settings, then one a network."""
    lines = [{"settings": measured["settings"]}, *({"name": n, **v} for n, v in measured["networks"].items())]
    write_file(path, "".join(json.dumps(line) + "\n" for line in lines), force=True)


def read_measurements(path: Path) -> Json:
    """From `write_measurements`. Raises DataError."""
    settings, networks = _read(path)
    return {"settings": settings, "networks": networks}


def tables(measured: JsonView, ghn: GHN, cache: Path | None) -> tuple[Table, Table]:
    """Features, targets and baselines of each split; networks of which not all is measured yet are left out.

    Args:
        cache: a folder where embeddings are kept from one call to the next.

    Raises:
        DataError: fewer than ten networks of a split.
    """
    settings, networks = measured["settings"], measured["networks"]
    complete = [key for key in (*_TARGETS, _GHN) if any(key in one for one in networks.values())]
    networks = {name: one for name, one in networks.items() if all(key in one for key in complete)}
    found = []
    for split in SPLITS:
        mine = {name: one for name, one in networks.items() if name.startswith(f"{split}-")}
        if len(mine) < 10:
            raise DataError(f"{len(mine)} networks of split {split} are measured; measure ten at least")
        nets = _architectures(split, mine, settings)
        graphs = [symbolic_graph(net) for net in nets]
        statistics = np.array([graph_statistics(g, architecture_macs(n, g)) for n, g in zip(nets, graphs, strict=True)])
        features = np.hstack([_embedded(ghn, graphs, list(mine), settings, cache), statistics])
        values = {key: np.array([float(one[key]) for one in mine.values()]) for key in complete}
        shown = {"parameters": "log_params", "MACs": "log_macs", "depth": "log_depth"}
        baselines = {name: statistics[:, STATISTICS.index(key)] for name, key in shown.items()}
        if _GHN in values:
            baselines[_GHN] = values[_GHN]
        found.append(Table(features, {key: values[key] for key in complete if key in _TARGETS}, baselines))
    return found[0], found[1]


def _architectures(split: str, names: Iterable[str], settings: JsonView) -> list[Architecture]:
    indices = [int(name.rsplit("-", 1)[1]) for name in names]
    chosen = choose(split, n=max(indices) + 1, file=settings["file"], seed=settings["arch_seed"])
    every = [choice.net for choice in chosen]
    return [net.replace(C=settings["channels"]) for i in indices if isinstance(net := every[i], Architecture)]


def _embedded(ghn: GHN, graphs: list[Any], names: list[str], settings: JsonView, cache: Path | None) -> Floats:
    """(n, hid) embeddings, from the cache where they are the same GHN's of the same networks."""
    if cache is None:
        return graph_embeddings(ghn, graphs)
    key = hashlib.sha256(json.dumps([names, settings["file"], settings["arch_seed"], settings["channels"]]).encode())
    for tensor in ghn.state_dict().values():
        key.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    path = cache / f"embeddings-{key.hexdigest()[:20]}.npy"
    if path.exists():
        kept: Floats = np.load(path, allow_pickle=False)
        if kept.shape == (len(graphs), ghn.config.hid):
            return kept
    found = graph_embeddings(ghn, graphs)
    cache.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    np.save(data, found)
    write_file(path, data.getvalue(), force=True, what="embeddings")
    return found


def markdown(report: JsonView, n_train: int, n_test: int) -> str:
    """Kendall's τ of everything for each property."""
    names = [known.name for known in PROPERTIES if known.name in report]
    rows = list(dict.fromkeys(row for name in names for row in report[name]["tau"]))
    titles = [name.replace("_ms", "").replace("_steps", "").replace("_", " ") for name in names]
    lines = [
        f"Kendall's τ on {n_test} networks of split `test`, fitted on {n_train} of `val`; mean ± spread of five seeds.",
        "",
        f"| predicted by | {' | '.join(titles)} |",
        "|---|" + "---:|" * len(names),
    ]
    for row in rows:
        cells = []
        for name in names:
            entry = report[name]["tau"][row]
            best = max(one["tau"] for one in report[name]["tau"].values())
            cell = f"{entry['tau']:.2f}" + (f" ± {entry['std']:.2f}" if entry["std"] else "")
            cells.append(f"**{cell}**" if math.isclose(entry["tau"], best) else cell)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    sets = {"both": "embedding and statistics"}
    chosen = (sets.get(report[name]["feature_set"], report[name]["feature_set"]) for name in names)
    lines.append(f"| *features chosen* | {' | '.join(chosen)} |")
    held = (f"{100 * report[name]['coverage']:.0f} %" for name in names)
    lines.append(f"| *90 % intervals hold* | {' | '.join(held)} |")
    return "\n".join(lines) + "\n"


def put_table(page: Path, table: str) -> None:
    """Put a table between the marks of a Markdown page. Raises DataError: no such page, or one without the marks."""
    try:
        before, rest = page.read_text("utf-8").split(_MARKS[0])
        _, after = rest.split(_MARKS[1])
    except (OSError, ValueError) as error:
        raise DataError(f"{page}: no page with {_MARKS[0]} and {_MARKS[1]} in it, once each") from error
    write_file(page, f"{before}{_MARKS[0]}\n{table}{_MARKS[1]}{after}", force=True)


def _read(path: Path) -> tuple[Json, Json]:
    try:
        first, *lines = path.read_text("utf-8").splitlines()
        found = {}
        for line in lines:
            record = json.loads(line)
            found[record.pop("name")] = record
        return json.loads(first)["settings"], found
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); run `measure` first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no file of measurements; name another folder") from error


def _same(before: JsonView, settings: Json, folder: Path) -> Json:
    differ = sorted(key for key in before if key in settings and before[key] != settings[key])
    if differ:
        raise DataError(f"{folder}: the splits were measured with different settings ({', '.join(differ)})")
    return settings
