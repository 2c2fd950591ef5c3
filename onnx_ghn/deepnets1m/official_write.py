"""Writing architectures for the published loader, in the form of facebookresearch/ppuda, experiments/net_generator.py.

Here rows and matrix are in one order, which is topological and goes cell by cell, so labels and edges agree.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.files import check_outputs, is_official
from onnx_ghn.deepnets1m.naming import cell_of, kind_of, short_name
from onnx_ghn.deepnets1m.official import meta_path
from onnx_ghn.deepnets1m.symbolic import count_trainable, n_trainable, symbolic_graph
from onnx_ghn.errors import ModelWriteError, OptionError
from onnx_ghn.graph.model import ComputationGraph
from onnx_ghn.installing import require
from onnx_ghn.onnx_io.transaction import NewFile, Transaction

__all__ = ["write_official"]

_CUTOFF = 250  # of the stored path lengths
_SEPARATORS = (", ", ": ")


def write_official(
    path: str | os.PathLike[str],
    splits: Mapping[str, Iterable[Architecture]],
    *,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write an HDF5 file and the JSON file beside it, whole or not at all.

    Args:
        splits: architectures by split. The published loader looks for train in deepnets1m_train.hdf5, for search
            in deepnets1m_search.hdf5, and for every other split in deepnets1m_eval.hdf5.
        force: replace existing files.
        progress: called after each architecture with how many are done.

    Raises:
        OptionError: the name does not end in .hdf5 or .h5.
        GraphError: an architecture whose output does not depend on its input.
        ModelWriteError: the files cannot be written, or exist; nothing was changed.
    """
    h5py = require("h5py", "train")
    path = os.fspath(path)
    if not is_official(path):
        raise OptionError(f"{path}: the official file must end in .hdf5")
    meta = meta_path(path)
    check_outputs([path, meta], force)
    with Transaction(path) as transaction:
        h5_file = transaction.create(os.path.basename(path))
        json_file = _Buffered(transaction.create(os.path.basename(meta)))
        n_done = 0
        try:
            # Without HDF5's own lock: the file under construction is locked already.
            with h5py.File(h5_file.path, "w", locking=False) as h5:
                h5.attrs["title"] = "DeepNets-1M"
                for at, (split, architectures) in enumerate(splits.items()):
                    json_file.write(f"{', ' if at else '{'}{json.dumps(split)}: {{")
                    writer = _SplitWriter(h5.create_group(split), json_file)
                    for architecture in architectures:
                        writer.add(architecture)
                        n_done += 1
                        if progress is not None:
                            progress(n_done)
                    writer.finish()
                json_file.write("}" if splits else "{}")
        except RuntimeError as error:  # how h5py tells that a file could not be closed
            raise ModelWriteError(f"{path}: cannot be written ({error}); free some space") from error
        json_file.flush()
        transaction.place(h5_file, os.path.basename(path), last=False)
        transaction.place(json_file.file, os.path.basename(meta), last=True)


class _SplitWriter:
    """Writes the nets of a split, numbered in their order, and the tables that number kinds and names."""

    def __init__(self, group: Any, json_file: _Buffered) -> None:
        self.group = group
        self.json_file = json_file
        self.kinds: dict[str, int] = {}
        self.names: dict[str, int] = {}
        self.n_nets = 0
        json_file.write('"nets": [')

    def add(self, architecture: Architecture) -> None:
        graph = symbolic_graph(architecture)
        lengths = graph.distances(_CUTOFF).astype(np.uint8)
        folder = f"{self.n_nets}/"
        # Compressed, which HDF5 undoes for every reader: nearly all of it is a smooth upper triangle.
        self.group.create_dataset(
            folder + "adj", data=lengths, compression="gzip", compression_opts=1, chunks=lengths.shape
        )
        self.group.create_dataset(folder + "nodes", data=self._rows(architecture, graph))
        entry = architecture.to_dict() | {
            "num_nodes": len(graph),
            "num_params": {"cifar10": n_trainable(graph), "imagenet": count_trainable(architecture, large_images=True)},
        }
        self.json_file.write((", " if self.n_nets else "") + json.dumps(entry, separators=_SEPARATORS))
        self.n_nets += 1

    def _rows(self, architecture: Architecture, graph: ComputationGraph) -> Array:
        """(N, 3) kind, cell, name."""
        rows = []
        for node in graph.nodes:
            kind = self.kinds.setdefault(kind_of(node), len(self.kinds))
            name = self.names.setdefault(short_name(node), len(self.names))
            rows.append((kind, cell_of(node.name, architecture.n_cells), name))
        return np.array(rows, dtype=np.uint16)

    def finish(self) -> None:
        meta = {
            "primitives_ext": {str(number): kind for kind, number in self.kinds.items()},
            "unique_op_names": {str(number): name for name, number in self.names.items()},
        }
        self.json_file.write(f'], "meta": {json.dumps(meta)}}}')


class _Buffered:
    """Writes text to a new file, a megabyte at a time."""

    def __init__(self, file: NewFile) -> None:
        self.file = file
        self.pending: list[str] = []
        self.n_pending = 0

    def write(self, text: str) -> None:
        self.pending.append(text)
        self.n_pending += len(text)
        if self.n_pending > 1 << 20:
            self.flush()

    def flush(self) -> None:
        self.file.write("".join(self.pending).encode())
        self.pending, self.n_pending = [], 0
