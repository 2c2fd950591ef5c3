"""Elements that a framework calls trainable, beside those that the file's ledger calls so: exactly, module by module.

    python benchmarks/exact_counts.py --zoo torchvision --out counts.jsonl    # one zoo; a run that was stopped goes on
    python benchmarks/exact_counts.py --out counts.jsonl --table              # what is measured so far

A zoo runs in an environment with its framework (`make exporters` builds them; torch_geometric, snntorch, e3nn and haiku
are in none of them). Where that has no torch, ONNX_GHN_PYTHON names the interpreter that predicts.

framework: elements of the parameters that require a gradient and that the forward pass uses. with notes: of the file
that `onnx-ghn export` writes. without: of the file that the framework's exporter writes with the model's own weights
and without any note of ours (of torch's second exporter: of the first file, without the notes). load: the largest
difference between what the model computes after `load` of a predicted file and what onnxruntime computes of that file,
relative to the largest output. Running statistics stay those of a fresh network, unless outputs grow beyond 10^6, or
the zoo says that they are to be measured.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
from exact_subjects import subject_kind
from exact_zoo import EXPORTERS, MODULES, REASONS, TF2ONNX_DROPS, ZOOS, Module
from predicting import predicted

from onnx_ghn.errors import OnnxGhnError

__all__ = ["CLOSE", "Counts", "counted"]

#: Relative difference of outputs that counts as equal.
CLOSE = 1e-3
_LARGE = 1e6  # of an output; without running statistics of their own, deep networks leave float32
_SHOWN = 12  # names of tensors in a line
_ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a module and an exporter give.

    Attributes:
        framework: elements of the trainable parameters that the forward pass uses.
        unused: elements of the trainable parameters that it does not use, by name.
        with_notes, without_notes: trainable elements of the ledger.
        uncertain: elements of the second file of which nothing tells whether they are learned.
        missing: of the framework's parameters, what the second file's ledger does not count, by name and size.
        extra: what that ledger counts and the framework does not.
        load: largest relative difference of the outputs; None where it could not be compared.
        failed: why there are no counts, or no comparison.
        whose: what failed: the library, the exporter, or we.
    """

    framework: int = 0
    unused: Mapping[str, int] = dataclasses.field(default_factory=dict)
    with_notes: int | None = None
    without_notes: int | None = None
    uncertain: int = 0
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extra: Mapping[str, str] = dataclasses.field(default_factory=dict)
    load: float | None = None
    failed: str = ""
    whose: str = ""
    versions: str = ""


@click.command()
@click.option("--zoo", "zoos", type=click.Choice(ZOOS), multiple=True)
@click.option("--exporter", help="This one alone.")
@click.option("--only", default="", help="Modules whose name contains this.")
@click.option("--again", is_flag=True, help="Also those that the file has.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Lines of results.")
@click.option("--limit", default=900, show_default=True, help="Seconds for a module and an exporter.")
@click.option("--together", is_flag=True, help="All in this process: fewer imports, and a crash costs the rest.")
@click.option("--table", is_flag=True, help="Print what the file holds.")
def main(
    zoos: tuple[str, ...],
    exporter: str | None,
    only: str,
    again: bool,
    out: Path,
    limit: int,
    together: bool,
    table: bool,
) -> None:
    """Count the elements of the modules that the file lacks, or print the table."""
    done = {} if again else _rows(out)
    for module in MODULES:
        if module.zoo not in zoos or only not in module.name:
            continue
        for by in EXPORTERS[module.zoo]:
            if (module.name, by) in done or exporter not in (None, by):
                continue
            start = time.perf_counter()
            row = dataclasses.asdict(counted(module, by)) if together else _in_a_process(module, by, limit)
            row = {"zoo": module.zoo, "module": module.name, "exporter": by, **row}
            row["seconds"] = round(time.perf_counter() - start, 1)
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    if table:
        _print(list(_rows(out).values()))


def _in_a_process(module: Module, exporter: str, limit: int) -> dict[str, Any]:
    """A process for each: some exports take gigabytes, and a crash should cost one line."""
    context = multiprocessing.get_context("fork" if _warm() else "spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, module, exporter))
    process.start()
    there.close()
    try:
        if here.poll(limit):
            found: dict[str, Any] = here.recv()
            return found
        return {"failed": f"it took more than {limit} seconds", "whose": "ours"}
    except EOFError:
        return {"failed": "the process died (out of memory, or a crash)", "whose": "ours"}
    finally:
        process.kill()
        process.join()


@functools.cache
def _warm() -> bool:
    """Let this process, whose copies measure, load what torch's exporters and a prediction need: that takes 12 seconds.

    False without torch. JAX and TensorFlow do not survive a fork.
    """
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("timm") is None:
        return False
    import timm  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    from onnx_ghn.exporters import pytorch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for exporter in ("torchscript", "dynamo"):
            path = os.path.join(folder, f"{exporter}.onnx")
            pytorch.export(torch.nn.Linear(2, 2), path, torch.zeros(1, 2), exporter=exporter)
        predicted(path, os.path.join(folder, "filled.onnx"))
    return True


def _send(connection: Connection, module: Module, exporter: str) -> None:
    warnings.simplefilter("ignore")
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # libraries greet
        counts = counted(module, exporter)
    connection.send(dataclasses.asdict(counts))


def counted(module: Module, exporter: str) -> Counts:
    """The counts of a module and an exporter."""
    from onnx_ghn.exporters.registry import resolve

    try:
        _seed()
        target = module.target.replace(":benchmarks/", f":{_ROOT}/benchmarks/")
        named = resolve(target, module.shapes, module.arguments)
        framework = subject_kind(named.model)
        subject = framework(named, exporter)
        used, unused = subject.trainable()
    except Exception as error:  # noqa: BLE001 - the table shows it
        return Counts(failed=_said(error), whose="library")
    counts = Counts(sum(used.values()), unused)
    with tempfile.TemporaryDirectory() as folder:
        return _of_files(counts, subject, used, Path(folder), calibrates=module.calibrates)


def _of_files(counts: Counts, subject: Any, used: Mapping[str, int], folder: Path, *, calibrates: bool) -> Counts:
    """With what the ledgers say of the two files, and what `load` brings."""
    from onnx_ghn.errors import GraphError
    from onnx_ghn.inspection import inspect_model

    noted, filled = folder / "noted.onnx", folder / "filled.onnx"
    try:
        report = subject.named.exporter.export(subject.named.model, noted, subject.inputs, **subject.options)
        counts = dataclasses.replace(counts, versions=report.exporter)
        counts = dataclasses.replace(counts, with_notes=inspect_model(noted).coverage.n_trainable)
        plain = inspect_model(_unnoted(subject, noted, folder)).coverage
        missing, extra = _differences(plain, used)
        counts = dataclasses.replace(
            counts,
            without_notes=plain.n_trainable,
            uncertain=sum(entry.parameter.size for entry in plain.uncertain),
            missing=missing,
            extra=extra,
        )
        outputs = _loaded(subject, noted, filled, "synthetic" if calibrates else "none")
        if not calibrates and any(map(_is_beyond, outputs)):
            outputs = _loaded(subject, noted, filled, "synthetic")
        difference, problem = _difference(outputs, _run(filled, subject.arrays()))
        return dataclasses.replace(counts, load=difference, failed=problem, whose="ours" if problem else "")
    except GraphError as error:
        theirs = any(words in str(error) for words in ("cannot export", "no runtime loads", "no runtime takes"))
        return dataclasses.replace(counts, failed=_said(error), whose="exporter" if theirs else "ours")
    except Exception as error:  # noqa: BLE001 - a defect of ours, which the table shows
        return dataclasses.replace(counts, failed=_said(error), whose="ours")


def _is_beyond(output: np.ndarray) -> bool:
    return not (np.isfinite(output).all() and float(np.abs(output).max(initial=0)) < _LARGE)


def _loaded(subject: Any, noted: Path, filled: Path, calibrate: Literal["none", "synthetic"]) -> list[np.ndarray]:
    """What a model computes with the weights that are predicted for its file."""
    predicted(str(noted), str(filled), calibrate=calibrate)
    subject.named.exporter.load(subject.named.model, filled, subject.inputs)
    found: list[np.ndarray] = subject.outputs()
    return found


def _unnoted(subject: Any, noted: Path, folder: Path) -> Any:
    """A file without notes of ours: the exporter's own, of which the first exporter of torch merges equal tensors.

    Torch's second exporter takes minutes, and merges none: of its files the notes are removed.
    """
    if subject.options.get("exporter") != "dynamo":
        (folder / "plain").mkdir()
        return subject.live().convert(folder / "plain")
    import onnx_ir

    from onnx_ghn.onnx_io.marks import FROZEN, READS, TRACE

    model = onnx_ir.load(noted)
    for key in list(model.metadata_props):
        if key.startswith((FROZEN, READS, TRACE)):
            del model.metadata_props[key]
    return model


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, OnnxGhnError) else f"{type(error).__name__}: {text}"


def _seed() -> None:
    np.random.seed(0)
    with contextlib.suppress(ImportError):
        import torch

        torch.manual_seed(0)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


def _differences(coverage: Any, used: Mapping[str, int]) -> tuple[dict[str, str], dict[str, str]]:
    """Of a file whose names are the framework's: parameters that are not counted, and what is counted beside them."""
    learned = {
        entry.parameter.name: entry
        for entry in coverage.learned
        if entry.outcome not in ("statistic", "frozen", "constant")
    }
    others = {entry.parameter.name: entry for entry in (*coverage.entries, *coverage.constants)}

    def stored_as(name: str) -> str:
        return next((each for each in (name, f"model.{name}") if each in others), name)

    missing = {}
    for name, size in used.items():
        if (stored := stored_as(name)) not in learned:
            entry = others.get(stored)
            why = f"{entry.outcome}: {entry.reason} ({entry.parameter.op})" if entry else "not in the file by this name"
            missing[name] = f"{size}: {why}"
        elif learned[stored].parameter.size != size:
            missing[name] = f"{size}: stored as {learned[stored].parameter.size}"
    named = {stored_as(name) for name in used}
    extra = {
        name: f"{entry.parameter.size}: {entry.parameter.role.value} of {entry.parameter.op}"
        for name, entry in learned.items()
        if name not in named
    }
    return _first(missing), _first(extra)


def _first(items: Mapping[str, str]) -> dict[str, str]:
    shown = dict(list(items.items())[:_SHOWN])
    if len(items) > _SHOWN:
        shown["…"] = f"{len(items) - _SHOWN} more"
    return shown


def _run(path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of a file by onnxruntime, on inputs in the order of the file's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()
    if len(wanted) != len(arrays):
        raise ValueError(f"the file has {len(wanted)} inputs, and the model {len(arrays)}")
    found = session.run(None, {value.name: array for value, array in zip(wanted, arrays, strict=True)})
    return [np.asarray(output) for output in found]


def _difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> tuple[float | None, str]:
    """The largest difference of two lists of outputs, relative to the largest number of each."""
    if len(ours) != len(theirs):
        return None, f"the model has {len(ours)} outputs, and the file {len(theirs)}"
    largest = 0.0
    for own, other in zip(ours, theirs, strict=True):
        if own.shape != other.shape:
            return None, f"an output is {own.shape} of the model and {other.shape} of the file"
        own, other = own.astype(np.float64), other.astype(np.float64)
        if not (np.isfinite(own).all() and np.isfinite(other).all()):
            return None, "outputs are not finite"
        scale = max(float(np.abs(own).max(initial=0)), 1e-12)
        largest = max(largest, float(np.abs(own - other).max(initial=0)) / scale)
    return largest, ""


def _rows(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The last line of each module and exporter, in the order of the zoo."""
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else iter(())
    found = {(row["module"], row["exporter"]): row for row in lines}
    order = [(module.name, by) for module in MODULES for by in EXPORTERS[module.zoo]]
    return {key: found[key] for key in order if key in found}


def _print(rows: Sequence[dict[str, Any]]) -> None:
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row["zoo"], row["exporter"]].append(row)
    print("| zoo | exporter | modules | exported | equal with notes | equal without notes | load equal |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for (zoo, exporter), group in groups.items():
        counts = [len(group), sum(row.get("with_notes") is not None for row in group)]
        counts += [sum(_is_equal(row, key) for row in group) for key in ("with_notes", "without_notes")]
        counts.append(sum(_loads(row) for row in group))
        print(f"| {zoo} | {exporter} | " + " | ".join(map(str, counts)) + " |")
    print()
    for row in rows:
        if problems := list(_problems(row)):
            dropped = TF2ONNX_DROPS if row["exporter"] == "tf2onnx" and row["with_notes"] is not None else ""
            reason = REASONS.get((row["module"], row["exporter"]), dropped)
            said = [problem for problem in problems if not (reason and ": " in problem)]
            print(f"- {row['module']}, {row['exporter']}: {'; '.join([*said, *[reason] * bool(reason)])}")


def _is_equal(row: Mapping[str, Any], key: str) -> bool:
    return row.get(key) is not None and row[key] == row["framework"]


def _loads(row: Mapping[str, Any]) -> bool:
    return row.get("load") is not None and row["load"] <= CLOSE


def _problems(row: Mapping[str, Any]) -> Iterator[str]:
    if row.get("unused"):
        yield f"{sum(row['unused'].values()):,} elements that the forward pass does not use, which are not counted"
    for key in ("with_notes", "without_notes"):
        if row.get(key) is not None and not _is_equal(row, key):
            yield f"{key.replace('_', ' ')} {row[key] - row['framework']:+,} of {row['framework']:,}"
    if row.get("with_notes") is None:
        yield f"no file: {row['failed'][:200]}"
    elif row.get("failed"):
        yield f"outputs not compared: {row['failed'][:200]}"
    elif not _loads(row):
        yield f"outputs differ by {row['load']:.1e}"


if __name__ == "__main__":
    sys.exit(main())
