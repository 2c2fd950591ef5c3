"""Writing a model: one file, or one and a data file beside it, tensor by tensor, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from onnx_ghn.errors import ModelReadError, ModelWriteError
from onnx_ghn.limits import gib
from onnx_ghn.onnx_io import wire
from onnx_ghn.onnx_io.read import DECLARED, EXPECTED, EXTERNAL, SOURCE, read_model, reason_of
from onnx_ghn.onnx_io.sites import Slot, sites, slots
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
    model: ir.Model, path: str | os.PathLike[str], *, force: bool = False, external: bool | None = None
) -> list[Path]:
    """Write a model; the files written, the .onnx first. The model is left as it was.

    `external`: weights in a data file beside the model (True), inside it (False), or as their size and
    the source suggest (None). An existing target is replaced only with `force`, in one step;
    a failure leaves nothing behind and everything that was there.
    """
    target = os.fspath(path)
    check_target(target, force, "an .onnx file")
    if os.path.realpath(target) in model.meta.get(EXTERNAL, ()):
        raise ModelWriteError(f"{target}: holds weights of the model that was read; name another file")
    stores = list(slots(model))
    total = sum(slot.tensor.nbytes for slot in stores if slot.tensor.dtype != ir.DataType.STRING)
    if external is None:
        external = total > _INSIDE_LIMIT or (total > _KEEP_EXTERNAL and bool(model.meta.get(EXTERNAL)))
    name = os.path.basename(target)
    with Transaction(target) as transaction:
        superseded = _superseded(target, model)
        data_name = _free_data_name(target) if external else None
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
            file = transaction.create(data_name)
            for offset, tensor in plan.outside:
                file.seek(offset)
                _write_tensor(file, tensor)
            transaction.place(file, data_name, last=False)
            written.append(Path(target).parent / data_name)
        file = transaction.create(name)
        for piece in pieces:
            if isinstance(piece, int):
                _write_tensor(file, plan.payloads.items[piece])
            else:
                file.write(piece)
        transaction.place(file, name, last=True)
    for path_ in superseded:
        # The .onnx file that named them is no more.
        with contextlib.suppress(OSError):
            os.unlink(path_)
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


def _free_data_name(target: str) -> str:
    """`<target>.data`, or a name of its own where that exists: a file in use is never written over."""
    name = f"{os.path.basename(target)}.data"
    while os.path.lexists(os.path.join(os.path.dirname(target), name)):
        name = f"{os.path.basename(target)}.{secrets.token_hex(4)}.data"
    return name


def _superseded(target: str, model: ir.Model) -> list[str]:
    """The data files that an existing target refers to and that, by their names, are its alone."""
    pattern = re.compile(re.escape(os.path.basename(target)) + r"(\.[0-9a-f]{8})?\.data")
    folder = os.path.dirname(target) or os.curdir
    if not os.path.isfile(target) or not any(pattern.fullmatch(name) for name in os.listdir(folder)):
        return []
    try:
        old = read_model(target)
    except ModelReadError:
        return []
    files = set(old.meta[EXTERNAL])
    if model.meta.get(SOURCE) != old.meta[SOURCE]:
        files -= set(model.meta.get(EXTERNAL, ()))  # another model's data: an input is never touched
    return sorted(path for path in files if pattern.fullmatch(os.path.basename(path)))
