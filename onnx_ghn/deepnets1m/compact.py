"""Our own format for architectures: one line of JSON for each, since a genotype determines its graph.

The first line says what the file is: the columns of the others, the operations that they number, and the split and
seed from which all lines follow. Nothing is written at the end, so that a file is whole after every line:
generation can stop anywhere, and an unfinished last line is as if it were not there.
A line takes about 120 bytes, a million architectures 120 MB (the official file: tens of gigabytes).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.genotypes import OPERATIONS, Edge, Genotype
from onnx_ghn.deepnets1m.records import DeepNetsFile, Record, whole_number
from onnx_ghn.errors import DataError, OptionError
from onnx_ghn.json_types import JsonView
from onnx_ghn.reading import open_regular

__all__ = ["CompactFile", "header_line", "record_line"]

_FORMAT, _VERSION = "onnx-ghn deepnets", 1
_COUNTS = ("num_nodes", "params_cifar10", "params_imagenet")
_STEM = ("ks", "stem_type", "stem_pool", "norm", "preproc")
_SIZES = ("n_cells", "C", *_STEM, "C_mult", "fc_layers", "fc_dim", "glob_avg")
_CELLS = ("normal", "normal_concat", "reduce", "reduce_concat")
_COLUMNS = (*_COUNTS, *_SIZES, *_CELLS)
_FLAGS = ("stem_pool", "preproc", "glob_avg")
_CODES = {operation: code for code, operation in enumerate(OPERATIONS)}
_HEADER_LIMIT = 1 << 16  # bytes
_LINE_LIMIT = 1 << 20
_CHUNK_BYTES = 1 << 22


def header_line(split: str, seed: int) -> bytes:
    """The first line of a file."""
    header = {"format": _FORMAT, "version": _VERSION, "split": split, "seed": seed}
    header |= {"columns": _COLUMNS, "operations": OPERATIONS}
    return json.dumps(header).encode() + b"\n"


def record_line(record: Record) -> bytes:
    """The line of an architecture."""
    architecture, genotype = record.architecture, record.architecture.genotype
    sizes = [int(architecture.norm is not None) if n == "norm" else int(getattr(architecture, n)) for n in _SIZES]
    cells = (_coded(genotype.normal), genotype.normal_concat, _coded(genotype.reduce), genotype.reduce_concat)
    row = (record.n_nodes, record.n_params, record.n_params_large, *sizes, *cells)
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def _coded(edges: tuple[Edge, ...]) -> list[int]:
    return [number for operation, state in edges for number in (_CODES[operation], state)]


class CompactFile(DeepNetsFile):
    """A file of one split. Raises DataError: damaged, or another kind of file.

    Attributes:
        seed: from which the file was generated.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with open(open_regular(path), "rb") as file:
                first = file.readline(_HEADER_LIMIT)
                header = self._header(first)
                self._starts = _line_starts(file, len(first))  # (n + 1,): line i is starts[i] : starts[i + 1]
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
        self.splits = (str(header["split"]),)
        self.seed = header["seed"]
        self._operations: list[str] = header["operations"]

    def _header(self, line: bytes) -> JsonView:
        try:
            header = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            header = None
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise DataError(f"{self.path}: not a file of architectures; `deepnets generate` makes one")
        if header.get("version") != _VERSION or header.get("columns") != list(_COLUMNS):
            raise DataError(f"{self.path}: of version {header.get('version')!r}; this is read by a newer onnx-ghn")
        operations = header.get("operations")
        if not isinstance(operations, list) or not isinstance(header.get("split"), str) or "seed" not in header:
            raise DataError(f"{self.path}: its first line is damaged; generate it again")
        return header

    def count(self, split: str) -> int:
        self._check_split(split)
        return len(self._starts) - 1

    def record(self, split: str, index: int) -> Record:
        self._check_split(split)
        self._check_index(split, index)
        start, end = int(self._starts[index]), int(self._starts[index + 1])
        try:
            if end - start > _LINE_LIMIT:
                raise ValueError("a line of more than a megabyte")
            with open(self.path, "rb") as file:
                file.seek(start)
                return self._parsed(json.loads(file.read(end - start)))
        except (ValueError, TypeError, IndexError, RecursionError, OverflowError, OptionError, OSError) as error:
            raise DataError(
                f"{self.path}: architecture {index} is damaged ({error}); generate the file again"
            ) from error

    def _parsed(self, row: Any) -> Record:
        if not isinstance(row, list) or len(row) != len(_COLUMNS):
            raise ValueError(f"not the {len(_COLUMNS)} values of a line")
        values = dict(zip(_COLUMNS, row, strict=True))
        sizes = {name: values[name] for name in _SIZES}
        sizes.update((name, bool(sizes[name])) for name in _FLAGS)
        sizes["norm"] = "bnorm" if sizes["norm"] else None
        cells = {name: tuple(int(state) for state in values[name]) for name in ("normal_concat", "reduce_concat")}
        genotype = Genotype(normal=self._edges(values["normal"]), reduce=self._edges(values["reduce"]), **cells)
        counts = [whole_number(values[name]) for name in _COUNTS]
        return Record(Architecture(genotype=genotype, **sizes), *counts)

    def _edges(self, numbers: list[int]) -> tuple[Edge, ...]:
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        return tuple((self._operations[code], int(state)) for code, state in pairs)

    def n_nodes(self, split: str) -> npt.NDArray[np.int64]:
        self._check_split(split)
        found = np.zeros(self.count(split), dtype=np.int64)
        with open(self.path, "rb") as file:
            file.seek(int(self._starts[0]))
            for index, line in zip(range(len(found)), file, strict=False):
                try:  # the first column
                    found[index] = whole_number(int(line[1 : line.index(b",")]))
                except (ValueError, OverflowError) as error:
                    raise DataError(f"{self.path}: architecture {index} is damaged; generate the file again") from error
        return found

    def end_of(self, n: int) -> int:
        """The byte at which the first n architectures end."""
        return int(self._starts[n])


def _line_starts(file: Any, at: int) -> npt.NDArray[np.int64]:
    """Where each whole line from `at` on starts, and where the last one ends."""
    found = [np.array([at], dtype=np.int64)]
    while chunk := file.read(_CHUNK_BYTES):
        found.append(np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")) + at + 1)
        at += len(chunk)
    return np.concatenate(found)
