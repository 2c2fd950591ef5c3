"""Writing a model: one file, or one and a data file beside it, tensor by tensor, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from onnx_ghn.errors import ModelWriteError
from onnx_ghn.limits import gib
from onnx_ghn.locks import alone_in
from onnx_ghn.onnx_io import wire
from onnx_ghn.onnx_io.map_types import TypeMarkers
from onnx_ghn.onnx_io.read import DECLARED, EXPECTED, EXTERNAL, SOURCE, reason_of
from onnx_ghn.onnx_io.references import data_locations, naming_model
from onnx_ghn.onnx_io.sites import Slot, sites, slots
from onnx_ghn.onnx_io.strays import fitting
from onnx_ghn.onnx_io.tensors import AbsentTensor, FileTensor, LazyTensor, RawTensor, SparseTensor
from onnx_ghn.onnx_io.transaction import NewFile, Transaction, check_target

if TYPE_CHECKING:
    import onnx

__all__ = ["write_model"]

_INSIDE_LIMIT = 3 << 29  # 1.5 GiB: more goes to a data file unless the caller says otherwise
_KEEP_EXTERNAL = 100 << 20  # from this size the source's external data stay so; below, one file is handier
_PROTOBUF_LIMIT = 2**31 - 1
_SMALL = 1024  # bytes; a tensor up to this stays in the .onnx file, as onnx.save does it
# Readers map data files into memory: a page for a tensor, Windows' allocation granularity for a large one.
_ALIGNMENT, _LARGE, _LARGE_ALIGNMENT = 4096, 1 << 20, 1 << 16


def write_model(
    model: ir.Model,
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    external: bool | None = None,
    scratch: bool = False,
) -> list[Path]:
    """Write a model; the files written, the .onnx first. The model is left as it was.

    `external`: weights in a data file beside the model (True), inside it (False), or as their size and
    the source suggest (None). An existing target is replaced only with `force`, in one step;
    a failure leaves nothing behind and everything that was there.
    `scratch`: into a scratch folder of one's own, where no model lies that may name the file, and what a machine that
    stops loses is no loss.
    """
    target = os.fspath(path)
    if os.path.realpath(target) in model.meta.get(EXTERNAL, ()):
        raise ModelWriteError(f"{target}: holds weights of the model that was read; name another file")
    if not scratch:
        check_target(target, force, "an .onnx file")
    stores = list(slots(model))
    total = sum(slot.tensor.nbytes for slot in stores if slot.tensor.dtype != ir.DataType.STRING)
    if external is None:
        external = total > _INSIDE_LIMIT or (total > _KEEP_EXTERNAL and bool(model.meta.get(EXTERNAL)))
    name = os.path.basename(target)
    with Transaction(target, durable=not scratch) as transaction:
        data_name = transaction.claim(_data_names(name)) if external else None
        plan = _Plan(data_name)
        with _stand_ins(model, stores, plan):
            skeleton = _serialized(model, plan, target)
        sizes = [tensor.nbytes for tensor in plan.payloads.items]
        pieces, length = wire.put_back(skeleton, plan.payloads, sizes)
        if length > _PROTOBUF_LIMIT:
            raise ModelWriteError(
                f"{target}: would have {length / 2**30:.1f} GiB, more than the 2 GiB of a protobuf file; "
                "write it with external data"
            )
        _check_space(target, length + sum(tensor.nbytes for _, tensor in plan.outside))
        written = [Path(target)]
        if data_name is not None and plan.outside:
            file = transaction.create(data_name, like=name)  # as private as the model itself
            for offset, tensor in plan.outside:
                file.seek(offset)
                _write_tensor(file, tensor)
            transaction.place(file, data_name, last=False, new=True)
            written.append(Path(target).parent / data_name)
        file = transaction.create(name)
        for piece in pieces:
            if isinstance(piece, int):
                _write_tensor(file, plan.payloads.items[piece])
            else:
                file.write(piece)
        with alone_in(os.path.dirname(target) or os.curdir) as alone:
            superseded = _superseded(target, model) if alone else []
            transaction.place(file, name, last=True)
            for path_ in superseded:
                _remove_data(path_)
    return written


def _check_space(target: str, size_bytes: int) -> None:
    """Refuse what cannot fit before writing any of it: a few bytes can declare a tensor of terabytes."""
    try:
        disk = shutil.disk_usage(os.path.dirname(target) or os.curdir)
    except OSError:  # then writing tells
        return
    if disk.total and size_bytes > disk.free:  # pseudo file systems such as /proc count nothing
        raise ModelWriteError(
            f"{target}: would have {gib(size_bytes)}, and its disk has {gib(disk.free)} free; "
            "free some space or choose another folder"
        )


class _Plan:
    """Where each tensor goes: `payloads` inside the .onnx file, `outside` in the data file at an offset."""

    def __init__(self, data_name: str | None) -> None:
        self.payloads: wire.Payloads[ir.TensorProtocol] = wire.Payloads()
        self.outside: list[tuple[int, ir.TensorProtocol]] = []
        self.any_sparse = False
        self.map_types = TypeMarkers()
        self._data_name = data_name
        self._end = 0

    def stand_in(self, tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol | None:
        """What onnx_ir is to serialise in the place of `tensor`; None: itself."""
        if tensor.dtype == ir.DataType.STRING:
            return None
        if isinstance(tensor, SparseTensor):
            self.any_sparse = True
            return _Marked(self.payloads.add(tensor), tensor)
        if self._data_name is not None and tensor.nbytes > _SMALL:
            boundary = _LARGE_ALIGNMENT if tensor.nbytes > _LARGE else _ALIGNMENT
            offset = -(-self._end // boundary) * boundary
            self._end = offset + tensor.nbytes
            self.outside.append((offset, tensor))
            return ir.ExternalTensor(
                self._data_name,
                offset,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=name,
                doc_string=tensor.doc_string,
                metadata_props=dict(tensor.metadata_props),
            )
        typed = isinstance(tensor, ir.TensorProtoTensor)  # not raw_data: onnx_ir copies the message as it is
        # What computes or reads a file is not for onnx_ir: its errors would come wrapped, and all be held.
        if isinstance(tensor, LazyTensor | FileTensor | AbsentTensor) or (tensor.nbytes > _SMALL and not typed):
            return _Marked(self.payloads.add(tensor), tensor)
        return None


class _Marked(RawTensor):
    """A tensor with a marker for its data."""

    def __init__(self, marker: bytes, like: ir.TensorProtocol) -> None:
        shape = like.shape.numpy()
        super().__init__(
            like.name,
            like.dtype,
            shape,
            doc_string=like.doc_string,
            metadata_props=dict(like.metadata_props),
        )
        self._marker = marker

    def buffer(self) -> memoryview:
        return memoryview(self._marker)


@contextlib.contextmanager
def _stand_ins(model: ir.Model, stores: list[Slot], plan: _Plan) -> Iterator[None]:
    """Lend the model stand-ins for its tensors."""
    undo = []
    try:
        for slot in stores:
            stand_in = plan.stand_in(slot.tensor, slot.name)
            if stand_in is not None:
                undo.append(slot.saved())
                slot.put(stand_in)
        for site in sites(model):
            undo += plan.map_types.lend(site.graph)
            declared = site.graph.meta.get(DECLARED)
            if declared is None:
                continue
            # onnx_ir writes a value_info for every initializer that has a type; these had none.
            undo += [
                _typeless(value)
                for value in site.graph.initializers.values()
                if value.name not in declared and not value.is_graph_input() and not value.is_graph_output()
            ]
        yield
    finally:
        for restore in reversed(undo):
            restore()


def _typeless(value: ir.Value) -> Callable[[], None]:
    shape, kind = value.shape, value.type
    value.shape = value.type = None

    def restore() -> None:
        value.shape, value.type = shape, kind

    return restore


def _serialized(model: ir.Model, plan: _Plan, target: str) -> bytes:
    """The model without its data."""
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

    try:
        proto = ir.serde.serialize_model(model)
        plan.map_types.put_back(proto)
        if plan.any_sparse:
            _unhide_sparse(proto.graph, plan.payloads)
            for function in proto.functions:
                _unhide_sparse_in(function.node, plan.payloads)
        data: bytes = proto.SerializeToString()
    except (*EXPECTED, EncodeError) as error:
        raise ModelWriteError(f"{target}: the model {reason_of(error)}; check it with onnx.checker") from error
    return data


def _unhide_sparse(graph: onnx.GraphProto, payloads: wire.Payloads[ir.TensorProtocol]) -> None:
    """Turn the stand-ins of sparse tensors back into what they stand for."""
    for i in reversed(range(len(graph.initializer))):
        tensor = payloads.get(graph.initializer[i].raw_data)
        if isinstance(tensor, SparseTensor):
            sparse = graph.sparse_initializer.add()
            sparse.CopyFrom(tensor.proto)
            sparse.values.name = graph.initializer[i].name
            del graph.initializer[i]
    _unhide_sparse_in(graph.node, payloads)


def _unhide_sparse_in(nodes: Iterable[onnx.NodeProto], payloads: wire.Payloads[ir.TensorProtocol]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            tensor = payloads.get(attribute.t.raw_data) if attribute.HasField("t") else None
            if isinstance(tensor, SparseTensor):
                attribute.ClearField("t")
                attribute.sparse_tensor.CopyFrom(tensor.proto)
                attribute.type = ir.AttributeType.SPARSE_TENSOR.value
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _unhide_sparse(graph, payloads)


def _write_tensor(file: NewFile, tensor: ir.TensorProtocol) -> None:
    if isinstance(tensor, FileTensor):
        file.copy(tensor.source)
    elif isinstance(tensor, LazyTensor):
        for piece in tensor.pieces():
            file.write(piece)
    elif isinstance(tensor, RawTensor):
        file.write(tensor.buffer())
    else:
        data = tensor.tobytes()
        if len(data) != tensor.nbytes:
            raise ModelWriteError(f"tensor {tensor.name!r} gave {len(data)} bytes, not {tensor.nbytes}; check it")
        file.write(data)


def _data_names(name: str) -> Iterator[str]:
    """`<name>.data`, and others where that exists: a file in use is never written over."""
    yield fitting(name, ".data")
    while True:
        yield fitting(name, f".{secrets.token_hex(4)}.data")


def _superseded(target: str, model: ir.Model) -> list[str]:
    """The data files that an existing target names and that, by their names, are its alone.

    None where the target is a link or has another name: the model that it is stays.
    """
    try:
        status = os.lstat(target)
    except OSError:
        return []
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        return []
    if not data_locations(target, damaged=True):  # a look that is soon done: mostly there are none
        return []
    name, folder = os.path.basename(target), os.path.dirname(target) or os.curdir
    found = {os.path.join(os.path.realpath(folder), location) for location in data_locations(target)
             if os.path.basename(location) == location and _is_data_name(location, name)}  # fmt: skip
    if model.meta.get(SOURCE) != os.path.realpath(target):
        found -= set(model.meta.get(EXTERNAL, ()))  # another model's data: an input is never touched
    return sorted(found)


def _is_data_name(location: str, name: str) -> bool:
    """Whether `_data_names` gives it for a model of that name."""
    token = re.search(r"\.[0-9a-f]{8}\.data$", location)
    return location in (fitting(name, ".data"), fitting(name, token[0]) if token else None)


def _remove_data(path: str) -> None:
    """Remove a data file whose model is no more, unless it is shared: by a copy of the model, or by a hard link."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and naming_model(path) is None:
            os.unlink(path)
