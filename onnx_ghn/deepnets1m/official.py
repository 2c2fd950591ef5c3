"""The published files of DeepNets-1M read as they are: HDF5 with a matrix and a table for each net, JSON with the rest.

Facts from facebookresearch/ppuda: experiments/net_generator.py (what is written), ppuda/deepnets1m/loader.py
(`_init_graph`) and ppuda/ghn/nn.py (`_map_net_params`: nodes find parameters by name). `<split>/<index>/adj` holds
shortest-path lengths, `<split>/<index>/nodes` a row for each node: kind, cell, name of its parameter in the cell.

The published generator wrote the rows cell by cell and the matrix in topological order, so labels and edges of
some published graphs disagree. GHNs were trained on them as they stand, and so they are read.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.arrays import Array
from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.hdf5 import group_names, open_hdf5, read_matrix
from onnx_ghn.deepnets1m.naming import cell_of, full_name, primitive_of
from onnx_ghn.deepnets1m.records import DeepNetsFile, Record, whole_number
from onnx_ghn.deepnets1m.symbolic import PRUNED, trainable_parameters
from onnx_ghn.errors import DataError, GraphError, OptionError
from onnx_ghn.graph.model import ComputationGraph, Node, Primitive
from onnx_ghn.graph.parameter import Parameter
from onnx_ghn.json_types import Json, JsonView
from onnx_ghn.limits import gib, memory_bytes
from onnx_ghn.reading import read_regular

__all__ = ["OfficialFile", "meta_path"]

_REMEDY = "download or copy the file again"
_LOADED = 16  # bytes of Python objects for each byte of JSON, at most
_ADJ_BYTES = 32  # of arrays made for each entry of the matrix


def meta_path(path: str) -> str:
    """The JSON file that belongs to an HDF5 file."""
    return f"{os.path.splitext(path)[0]}_meta.json"


class OfficialFile(DeepNetsFile):
    """An HDF5 file and the JSON file beside it. Raises DataError: damaged, absent, or another kind of file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._meta = _read_meta(meta_path(path))
        self._h5: Any = None
        self._pid = 0
        self._lock = threading.Lock()
        present = self._groups()
        self.splits = tuple(split for split in self._meta if split in present)
        if not self.splits:
            raise DataError(f"{path}: holds none of the splits that {meta_path(path)} lists ({', '.join(self._meta)})")
        self._kinds = {split: self._numbered(split, "primitives_ext") for split in self.splits}
        self._names = {split: self._numbered(split, "unique_op_names") for split in self.splits}

    def count(self, split: str) -> int:
        self._check_split(split)
        return len(self._meta[split]["nets"])

    def record(self, split: str, index: int) -> Record:
        self._check_split(split)
        self._check_index(split, index)
        net = self._meta[split]["nets"][index]
        try:
            counts = net["num_params"]
            numbers = (net["num_nodes"], counts["cifar10"], counts["imagenet"])
            return Record(Architecture.from_dict(net), *(whole_number(number) for number in numbers))
        except (KeyError, TypeError, ValueError, OverflowError, OptionError) as error:
            raise DataError(
                f"{meta_path(self.path)}: net {index} of split {split} is damaged ({error}); {_REMEDY}"
            ) from error

    def n_nodes(self, split: str) -> npt.NDArray[np.int64]:
        self._check_split(split)
        try:
            return np.array([whole_number(net["num_nodes"]) for net in self._meta[split]["nets"]], dtype=np.int64)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{meta_path(self.path)}: a num_nodes of split {split} is damaged; {_REMEDY}") from error

    def matrix(self, split: str, index: int) -> npt.NDArray[np.uint8]:
        """(N, N) shortest-path lengths as stored: 1 an edge, 0 no path. Raises DataError: damaged."""
        n = self.record(split, index).n_nodes
        return self._dataset(split, index, "adj", (n, n))

    def graph(self, split: str, index: int, num_classes: int = 10, *, large_images: bool = False) -> ComputationGraph:
        """As the published loader gives it. Raises DataError: damaged."""
        where = f"{self.path}: net {index} of split {split}"
        architecture = self.architecture(split, index, large_images=large_images)
        lengths = self.matrix(split, index)
        rows = self._dataset(split, index, "nodes", (len(lengths), 3))
        try:
            parameters = trainable_parameters(architecture, num_classes, large_images=large_images)
            nodes = self._nodes(split, rows.tolist(), architecture, parameters, where)
            decoded = {i for node in nodes for i in node.parameters}
            if len(decoded) != sum(len(node.parameters) for node in nodes):
                raise DataError(f"{where}: two nodes have the same parameter; {_REMEDY}")
            return ComputationGraph(
                nodes=tuple(nodes),
                edges=np.argwhere(lengths == 1),
                parameters=tuple(
                    p if i in decoded else dataclasses.replace(p, reason=PRUNED) for i, p in enumerate(parameters)
                ),
                name=f"{split} {index}",
            )
        except GraphError as error:
            raise DataError(f"{where} is damaged ({error}); {_REMEDY}") from error

    def _nodes(
        self,
        split: str,
        rows: list[list[int]],
        architecture: Architecture,
        parameters: tuple[Parameter, ...],
        where: str,
    ) -> list[Node]:
        """A node for each row; it decodes the first parameter of its cell whose name begins with the row's name."""
        number = {parameter.name: i for i, parameter in enumerate(parameters)}
        kinds, names = self._kinds[split], self._names[split]
        nodes = []
        for kind_number, cell, name_number in rows:
            if kind_number not in kinds or name_number not in names or cell >= architecture.n_cells:
                raise DataError(f"{where}: row {[kind_number, cell, name_number]} names nothing in its meta; {_REMEDY}")
            kind, name = kinds[kind_number], full_name(names[name_number], cell)
            primitive = primitive_of(kind)
            if primitive is None:
                raise DataError(f"{where}: node {name} is of no known kind ({kind}); {_REMEDY}")
            found = number.get(name)
            if found is None and primitive in _WITH_PARAMETERS:
                of_cell = (i for known, i in number.items() if cell_of(known, architecture.n_cells) == cell)
                found = next((i for i in of_cell if parameters[i].name.startswith(name)), None)
                if found is None:
                    raise DataError(f"{where}: node {name} ({kind}) is no parameter of its network; {_REMEDY}")
            if found is None:
                is_pool = primitive in (Primitive.max_pool, Primitive.avg_pool)
                nodes.append(Node(primitive, (1, 1, 3, 3) if is_pool else None, name=name))
                continue
            shape, name = parameters[found].layout.canonical, parameters[found].name
            if primitive in (Primitive.bn, Primitive.ln):
                shift = number.get(name.removesuffix("weight") + "bias")
                nodes.append(Node(primitive, shape, scale=found, shift=shift, name=name))
            elif primitive is Primitive.bias:
                nodes.append(Node(primitive, shape, shift=found, name=name))
            else:
                nodes.append(Node(primitive, shape, weight=found, name=name))
        return nodes

    # -- HDF5 --------------------------------------------------------------------------------------------

    def _file(self) -> Any:
        """An h5py.File that this process opened."""
        if self._h5 is None or self._pid != os.getpid():
            try:
                self._h5, self._pid = open_hdf5(self.path), os.getpid()
            except (OSError, RuntimeError, ValueError) as error:
                raise DataError(f"{self.path}: is no HDF5 file, or a truncated or damaged one; {_REMEDY}") from error
        return self._h5

    def _groups(self) -> set[str]:
        with self._lock:
            try:
                found = group_names(self._file())
            except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
                raise DataError(f"{self.path}: its groups cannot be listed; {_REMEDY}") from error
        self.close()
        return found

    def _dataset(self, split: str, index: int, name: str, shape: tuple[int, int]) -> Array:
        """A dataset as an array. Its size is checked before anything is allocated."""
        where = f"{self.path}: {split}/{index}/{name}"
        needed_bytes = _ADJ_BYTES * shape[0] * shape[0]
        if shape[0] < 1 or needed_bytes > memory_bytes():
            raise DataError(f"{where}: its {shape[0]:,} nodes would need {gib(needed_bytes)}; {_REMEDY}")
        try:
            with self._lock:
                return read_matrix(self._file(), (split, str(index), name), shape)
        except ValueError as error:
            raise DataError(f"{where}: {error}; {_REMEDY}") from error
        except (OSError, KeyError, AttributeError, RuntimeError, TypeError, MemoryError) as error:
            raise DataError(f"{where}: is absent or damaged; {_REMEDY}") from error

    def close(self) -> None:
        with self._lock:
            if self._h5 is not None and self._pid == os.getpid():
                self._h5.close()
            self._h5 = None

    def __getstate__(self) -> Json:
        return {**self.__dict__, "_h5": None, "_lock": None}

    def __setstate__(self, state: Json) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    # -- JSON --------------------------------------------------------------------------------------------

    def _numbered(self, split: str, key: str) -> dict[int, str]:
        try:
            table = self._meta[split]["meta"][key]
            return {int(number): str(name) for number, name in table.items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{meta_path(self.path)}: split {split} has no table {key!r}; {_REMEDY}") from error


_WITH_PARAMETERS = frozenset(
    Primitive[name] for name in ("conv", "sep_conv", "dil_conv", "bias", "bn", "ln", "pos_enc")
)


def _read_meta(path: str) -> JsonView:
    try:
        needed_bytes = _LOADED * os.path.getsize(path)
        if needed_bytes > memory_bytes():
            raise DataError(f"{path}: needs {gib(needed_bytes)} to be read, and there are {gib(memory_bytes())}")
        meta = json.loads(read_regular(path))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); it belongs beside the .hdf5 file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON, or is truncated ({error}); {_REMEDY}") from error
    if not isinstance(meta, dict):
        raise DataError(f"{path}: holds no splits; is it the meta file of DeepNets-1M?")
    for split, content in meta.items():
        if not isinstance(content, dict) or not isinstance(content.get("nets"), list):
            raise DataError(f"{path}: split {split!r} has no list of nets; {_REMEDY}")
    return meta
