"""File tools: each takes a file and writes a file, with its defaults where nothing else is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx

from compatibility_runs.cells import Cell
from compatibility_runs.measure_row import judged
from compatibility_runs.messages import short
from compatibility_runs.rows import Row

__all__ = ["measure"]

_Tool = Callable[[Path, Path], None]


def _onnxslim(source: Path, target: Path) -> None:
    import onnxslim

    onnx.save(onnxslim.slim(str(source)), target)


def _onnxsim(source: Path, target: Path) -> None:
    import onnxsim

    model, _ = onnxsim.simplify(onnx.load(source))
    onnx.save(model, target)


def _onnxoptimizer(source: Path, target: Path) -> None:
    import onnxoptimizer

    onnx.save(onnxoptimizer.optimize(onnx.load(source)), target)


def _onnxscript(source: Path, target: Path) -> None:
    from onnxscript import optimizer

    onnx.save(optimizer.optimize(onnx.load(source)), target)


def _onnx_ir(source: Path, target: Path) -> None:
    import onnx_ir as ir
    from onnx_ir.passes import Sequential, common

    model = ir.load(source)
    passes = Sequential(
        common.IdentityEliminationPass(),
        common.LiftConstantsToInitializersPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    )
    ir.save(passes(model).model, target)


def _graphsurgeon(source: Path, target: Path) -> None:
    import onnx_graphsurgeon

    graph = onnx_graphsurgeon.import_onnx(onnx.load(source))
    onnx.save(onnx_graphsurgeon.export_onnx(graph.fold_constants().cleanup().toposort()), target)


def _offline(level: str) -> _Tool:
    def write(source: Path, target: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    return write


def _transformers(source: Path, target: Path) -> None:
    from onnxruntime.transformers.optimizer import optimize_model

    # Level 1, the default, imports torch.
    model = optimize_model(str(source), model_type="bert", num_heads=0, hidden_size=0, opt_level=0)
    model.save_model_to_file(str(target))


def _half_common(source: Path, target: Path) -> None:
    from onnxconverter_common import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def _half_ort(source: Path, target: Path) -> None:
    from onnxruntime.transformers import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def _dynamic(source: Path, target: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, target)


def _static(source: Path, target: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    names = [given.name for given in onnx.load(source).graph.input]

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            with np.load(Path(os.environ["ONNX_GHN_PREPARED"]) / f"{_network(source)}.npz") as arrays:
                self._feeds: Iterator[dict[str, np.ndarray]] = iter([{names[0]: arrays["in:0"]}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    quantize_static(source, target, Reader())


def _network(source: Path) -> str:
    return source.stem.removesuffix("-bare")


def _version(source: Path, target: Path) -> None:
    from onnx import version_converter

    onnx.save(version_converter.convert_version(onnx.load(source), 22), target)


_TOOLS: dict[str, _Tool] = {
    "onnxslim": _onnxslim,
    "onnxsim": _onnxsim,
    "onnxoptimizer": _onnxoptimizer,
    "onnxscript": _onnxscript,
    "onnx-ir-passes": _onnx_ir,
    "graphsurgeon": _graphsurgeon,
    "ort-basic": _offline("ORT_ENABLE_BASIC"),
    "ort-extended": _offline("ORT_ENABLE_EXTENDED"),
    "ort-all": _offline("ORT_ENABLE_ALL"),
    "ort-transformers": _transformers,
    "float16-common": _half_common,
    "float16-ort": _half_ort,
    "quantize-dynamic": _dynamic,
    "quantize-static": _static,
    "version-converter": _version,
}


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """Take the predicted file and the one without weights through a tool, and judge what comes out."""
    prepared, tool = Path(os.environ["ONNX_GHN_PREPARED"]), _TOOLS[row.key]
    for name in (network, f"{network}-bare"):
        shutil.copy(prepared / f"{name}.onnx", folder)
    try:
        tool(folder / f"{network}.onnx", folder / "after.onnx")
    except Exception as error:  # noqa: BLE001 - of foreign software; the cell tells it
        return {"outputs": Cell("refused", short(error))}
    bare: dict[str, Cell] = {}
    try:
        tool(folder / f"{network}-bare.onnx", folder / "after-bare.onnx")
    except Exception as error:  # noqa: BLE001 - likewise
        bare["bare"] = Cell("refused", short(error))
    return {**judged("judging_tools", folder, row, network), **bare}
