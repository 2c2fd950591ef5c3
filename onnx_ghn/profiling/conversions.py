"""A model in another precision, by the converters of onnxruntime and onnxconverter-common as they are.

fp16: `onnxruntime.transformers.float16`, inputs and outputs kept in float32. fp16-common: that of onnxconverter_common,
which cuts values off at ±10,000 and leaves outputs of a Resize, TopK or CumSum in halves. int8:
`onnxruntime.quantization.quantize_static` (QDQ, weights by channel), calibrated on given inputs. int8-dynamic:
`quantize_dynamic`, whose activations are quantised as they come.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_ghn.arrays import Array
from onnx_ghn.errors import OnnxGhnError, RuntimeFailure
from onnx_ghn.installed_runtime import require_onnxruntime
from onnx_ghn.profiling.precision_names import data_name
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx

__all__ = ["convert"]

_LARGE_BYTES = 1_500_000_000  # above, weights go beside the model, as protobuf ends at 2 GiB


def convert(path: str, precision: str, target: str, feeds: Sequence[Mapping[str, Array]]) -> None:
    """Write a model in another precision.

    Args:
        path: the model.
        precision: one of `precision_names.PRECISIONS`, but fp32.
        target: the file to write, in a folder of its own.
        feeds: inputs to calibrate int8 on.

    Raises:
        RuntimeFailure: the converter cannot do it, or is not installed.
    """
    require_onnxruntime()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the converters advise on other ways to call them
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of single values that are cut off
            _CONVERTERS[precision](path, target, feeds)
    except OnnxGhnError:
        raise
    except ModuleNotFoundError as error:
        raise RuntimeFailure(f"{precision}: {error.name} is not installed; pip install {_package(error)}") from error
    except Exception as error:  # whatever a foreign converter raises is told in one line
        text = " ".join(str(error).split())[:300]
        raise RuntimeFailure(f"{precision}: the converter gives up: {type(error).__name__}: {text}") from error
    finally:
        root.setLevel(level)


def _package(error: ModuleNotFoundError) -> str:
    return "onnxconverter-common" if error.name == "onnxconverter_common" else str(error.name)


def _fp16(path: str, target: str, feeds: Sequence[Mapping[str, Array]]) -> None:
    import onnx_ir as ir
    from onnxruntime.transformers import float16

    def converted(model: onnx.ModelProto, **options: bool) -> onnx.ModelProto:
        halved = ir.from_proto(float16.convert_float_to_float16(model, **options))
        halved.graph.sort()  # casts stand behind what reads them, which onnxruntime takes and ONNX does not
        in_order: onnx.ModelProto = ir.to_proto(halved)
        return in_order

    _halve(converted, path, target)


def _fp16_common(path: str, target: str, feeds: Sequence[Mapping[str, Array]]) -> None:
    from onnxconverter_common import float16

    _halve(float16.convert_float_to_float16, path, target)


def _halve(convert_float: Callable[..., onnx.ModelProto], path: str, target: str) -> None:
    import onnx

    model = convert_float(onnx.load(path), keep_io_types=True)
    # Without a name, onnx makes one up, which nobody could look for before the work.
    onnx.save(model, target, save_as_external_data=_is_large(path), location=data_name(os.path.basename(target)))


def _int8(path: str, target: str, feeds: Sequence[Mapping[str, Array]]) -> None:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
        def __init__(self) -> None:
            self._left = iter(feeds)

        def get_next(self) -> Mapping[str, Array] | None:
            return next(self._left, None)

    with _prepared(path) as prepared:
        quantization.quantize_static(
            prepared, target, Reader(), per_channel=True, use_external_data_format=_is_large(path)
        )


def _int8_dynamic(path: str, target: str, feeds: Sequence[Mapping[str, Array]]) -> None:
    from onnxruntime import quantization

    with _prepared(path) as prepared:
        quantization.quantize_dynamic(prepared, target, per_channel=True, use_external_data_format=_is_large(path))


_CONVERTERS: dict[str, Callable[[str, str, Sequence[Mapping[str, Array]]], None]] = {
    "fp16": _fp16,
    "fp16-common": _fp16_common,
    "int8": _int8,
    "int8-dynamic": _int8_dynamic,
}


@contextlib.contextmanager
def _prepared(path: str) -> Iterator[str]:
    """The model as onnxruntime asks for it before it quantises: constants and batch norms folded, shapes inferred.

    It is in a folder of its own, as a large one has a file for each tensor beside it.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with scratch_folder() as folder:
        prepared = os.path.join(folder, "prepared.onnx")
        quant_pre_process(path, prepared, skip_symbolic_shape=True, save_as_external_data=_is_large(path))
        yield prepared


def _is_large(path: str) -> bool:
    folder = Path(path)
    return sum(file.stat().st_size for file in folder.parent.glob(f"{folder.name}*")) > _LARGE_BYTES
