"""Reading a model: any file in, an `ir.Model` or a ModelReadError of one line out."""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING, cast

import onnx_ir as ir

from onnx_ghn.arguments import path_given
from onnx_ghn.errors import ModelReadError
from onnx_ghn.onnx_io import wire
from onnx_ghn.onnx_io.checks import ModelChecks
from onnx_ghn.onnx_io.external import AbsentData, DataFolder, FileSlice, ModelFile
from onnx_ghn.onnx_io.lookalikes import ENDS, folder_told, lookalike
from onnx_ghn.onnx_io.map_types import adopt_map_types
from onnx_ghn.onnx_io.sites import sites, slots
from onnx_ghn.onnx_io.tensor_checks import Held, TensorChecks
from onnx_ghn.onnx_io.tensors import AbsentTensor, Docs, FileTensor, HeldTensor, SparseTensor

if TYPE_CHECKING:
    import onnx

__all__ = ["DECLARED", "EXPECTED", "EXTERNAL", "SOURCE", "read_model", "reason_of"]

logger = logging.getLogger(__name__)

SOURCE = "onnx_ghn.source"  # model.meta: the real path of the file, "" where there is none
EXTERNAL = "onnx_ghn.external"  # model.meta: the real paths of its external data files
DECLARED = "onnx_ghn.declared"  # graph.meta: the initializers that had a value_info

_PROTOBUF_LIMIT = 2**31 - 1
_READ_WHOLE = 8 << 20  # bytes; a file up to this is read at once
_HELD = 1 << 16  # bytes; a tensor up to this is read with what is around it
# What libraries below may raise on contents that the checks did not foresee. SerdeError and RecursionError
# are RuntimeErrors, a UnicodeDecodeError is a ValueError, DecodeError is looked up when needed.
EXPECTED = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def read_model(
    source: str | os.PathLike[str] | onnx.ModelProto | bytes,
    *,
    base_dir: str | os.PathLike[str] | None = None,
    allow_absent: bool = False,
    leave_on_disk: bool = False,
) -> ir.Model:
    """Read a model from a file, a ModelProto (never changed) or the bytes of a file.

    Weights stay where they are: in the bytes of the file, read once, or in its external data files, which
    are opened and checked but not read. `base_dir` is where external data may lie; for a file, its folder.
    With `leave_on_disk` the large weights of a large file are not read either: each is when it is asked for, and
    raises ModelReadError where the file has been written to by then.
    With `allow_absent` a data file may be lost: its tensors have shapes, and raise when asked for values.
    The nodes of the result are in topological order.
    """
    from google.protobuf.message import Error as ProtobufError  # type: ignore[import-untyped]

    path = ""
    data: bytes | ModelFile
    folder = None if base_dir is None else path_given("base_dir", base_dir)
    if isinstance(source, bytes | bytearray | memoryview):
        label, data = "the given bytes", bytes(source)
    elif hasattr(source, "SerializeToString"):
        label, data = "the given ModelProto", _serialized(cast("onnx.ModelProto", source))
    else:
        label = path = path_given("source", source, "a ModelProto, or the bytes of a file")
        data = _file_bytes(path, leave_on_disk)
        folder = folder or os.path.dirname(path) or os.curdir
    try:
        model = _parse(data, label, DataFolder(folder, label, allow_absent=allow_absent), path)
    except RecursionError as error:
        raise ModelReadError(f"{label}: nests types or graphs too deeply; simplify the model") from error
    except MemoryError as error:
        raise ModelReadError(f"{label}: not enough memory to read it; close other programs") from error
    except OSError as error:  # of a file that is left on the disk
        raise _unreadable(label, error) from error
    except (*EXPECTED, ProtobufError) as error:
        raise ModelReadError(f"{label}: {reason_of(error)}; the file is damaged or unusual, re-export it") from error
    model.meta[SOURCE] = path and os.path.realpath(path)
    return model


def reason_of(error: BaseException) -> str:
    """What went wrong at the bottom: onnx_ir wraps each level in another SerdeError."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, NotImplementedError):
        return "has an attribute that is the type of a map, which onnx-ir cannot hold"
    return f"cannot be understood ({str(error).strip()[:200] or type(error).__name__})"


def _file_bytes(path: str, leave_on_disk: bool) -> bytes | ModelFile:
    """The bytes of a model file, or the open file where it is large and may be left on the disk."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for somebody to write to it.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise ModelReadError(f"{path}: {folder_told(path)}")
            if not stat.S_ISREG(status.st_mode):
                raise ModelReadError(f"{path}: is a device, pipe or socket; name a regular file")
            if status.st_size == 0:
                raise ModelReadError(f"{path}: is empty; export or download the model again")
            if status.st_size > _PROTOBUF_LIMIT:
                raise ModelReadError(
                    f"{path}: has {status.st_size / 2**30:.1f} GiB, more than the 2 GiB of a protobuf file; "
                    "save the model with external data (onnx.save with save_as_external_data=True)"
                )
            if leave_on_disk and status.st_size > _READ_WHOLE and hasattr(os, "pread"):
                return ModelFile(os.dup(file.fileno()), path)
            return file.read()
    except ValueError as error:
        raise ModelReadError(f"{path!r}: not a path ({error}); name an .onnx file") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> ModelReadError:
    if os.path.isdir(path):  # some systems do not open one
        return ModelReadError(f"{path}: {folder_told(path)}")
    reason = (error.strerror or str(error)).lower()
    return ModelReadError(f"{path}: cannot be read ({reason}); check path and permissions")


def _serialized(proto: onnx.ModelProto) -> bytes:
    from google.protobuf.message import EncodeError

    try:
        data: bytes = proto.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelReadError(
            "the given ModelProto: cannot be serialised, perhaps as it is over 2 GiB; use external data"
        ) from error
    return data


def _parse(source: bytes | ModelFile, label: str, data_folder: DataFolder, path: str) -> ir.Model:
    import onnx
    from google.protobuf.message import DecodeError

    payloads: wire.Payloads[Held] = wire.Payloads()
    skeleton: bytes
    try:
        skeleton = _skeleton(source, payloads)
    except wire.WireError:  # for protobuf to accept or to refuse
        skeleton = source if isinstance(source, bytes) else source.read(0, source.size)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(skeleton)
    except DecodeError as error:
        raise ModelReadError(f"{label}: {lookalike(_ends(source), path)}") from error
    if not proto.HasField("graph"):
        raise ModelReadError(f"{label}: {lookalike(_ends(source), path)}")
    tensors = TensorChecks(label, payloads, data_folder)
    checks = ModelChecks(label, tensors)
    checks.model(proto, int(onnx.IR_VERSION))
    if proto.training_info:
        logger.warning("%s: its training_info, which onnx-ir cannot hold, is left out", label)
    model = ir.serde.deserialize_model(proto)
    for site, declared, map_types in zip(sites(model), checks.declared, checks.map_types, strict=True):
        site.graph.meta[DECLARED] = declared
        adopt_map_types(site.graph, map_types)
    _adopt(model, payloads)
    if checks.unsorted:
        from onnx_ir.passes.common import TopologicalSortPass

        try:
            TopologicalSortPass()(model)
        except ValueError as error:
            raise ModelReadError(f"{label}: the graph contains a cycle; re-export the model") from error
    model.meta[EXTERNAL] = data_folder.paths()
    return model


def _skeleton(source: bytes | ModelFile, payloads: wire.Payloads[Held]) -> bytes:
    """The model without its large tensors, which go to `payloads`."""
    if isinstance(source, ModelFile):
        window = wire.Window(source.read, source.size)

        def left(start: int, stop: int) -> bytes:
            small = stop - start <= _HELD
            return payloads.add(memoryview(window[start:stop]) if small else FileSlice(source, start, stop - start))

        skeleton = wire.take_out_parts(window, left)
        source.check()
        return skeleton
    return wire.take_out(memoryview(source), payloads)


def _ends(source: bytes | ModelFile) -> bytes:
    """What tells a file of another kind: its beginning and, of one that is left on the disk, its end."""
    if isinstance(source, bytes):
        return source
    return source.read(0, ENDS) + source.read(max(source.size - ENDS, 0), ENDS)


def _adopt(model: ir.Model, payloads: wire.Payloads[Held]) -> None:
    """Exchange onnx_ir's tensors, which copy the data at each access, for ours."""
    for slot in slots(model):
        tensor = slot.tensor
        if not isinstance(tensor, ir.TensorProtoTensor):
            continue
        proto = tensor.raw
        if not proto.HasField("raw_data"):
            # Serialising copies the message, with its metadata, and then adds the metadata once more.
            del proto.metadata_props[:]
            continue
        raw = proto.raw_data
        payload = payloads.get(raw)
        held = memoryview(raw) if payload is None else payload
        name, dtype, shape = tensor.name, tensor.dtype, tensor.shape.numpy()
        docs: Docs = {"doc_string": tensor.doc_string or None, "metadata_props": dict(tensor.metadata_props)}
        if isinstance(held, memoryview):
            slot.put(HeldTensor(held, name, dtype, shape, **docs))
        elif isinstance(held, AbsentData):
            slot.put(AbsentTensor(held, name, dtype, shape, **docs))
        elif isinstance(held, FileSlice):
            slot.put(FileTensor(held, name, dtype, shape, **docs))
        else:
            slot.put(SparseTensor(held, name, dtype, shape))
