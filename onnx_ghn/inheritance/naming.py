"""Rows of classifiers and of tables of tokens by the names of what they stand for, whatever their order and number."""

from __future__ import annotations

import ast
import collections
import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.errors import OptionError
from onnx_ghn.inheritance.labels import Ints
from onnx_ghn.reading import read_regular

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Namer", "Naming", "naming_in_files", "naming_of"]

_LARGEST = 1 << 27  # bytes of a file of names
_SHOWN = 4  # sizes that a message lists
#: Where exporters write the names of classes into a model's metadata: Ultralytics (as Python's text of a dictionary),
#: and what people write by hand.
_KEYS = ("names", "class_names", "classes", "labels", "id2label")
_LONGEST = 1 << 22  # characters of names in a model's metadata
#: What libraries call classes that nobody named: Ultralytics '0', transformers 'LABEL_0'.
_NUMBERED = re.compile(r"(class|label)?[ _-]?(\d+)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, eq=False)
class Naming:
    """Names of the donor's rows and of the recipient's.

    Attributes:
        option: that gave them, classes or vocabulary; "" for names that both files hold.
        mine, theirs: numbers of names.
        index: the donor's position of each of the recipient's names, -1 where the donor has none of that name.
    """

    option: str
    mine: int
    theirs: int
    index: Ints

    @classmethod
    def between(cls, option: str, theirs: Sequence[str], mine: Sequence[str]) -> Naming:
        """Look the recipient's names up among the donor's."""
        position = {name: number for number, name in enumerate(theirs)}
        index = np.array([position.get(name, -1) for name in mine], np.int64)
        return cls(option, len(mine), len(theirs), index)

    @property
    def rule(self) -> str:
        """For people."""
        known = int((self.index >= 0).sum())
        rest = "" if known == self.mine else ", the others by the usual rule"
        return f"{known:,} of {self.mine:,} rows by name{rest}"

    @property
    def doubt(self) -> str:
        """Why outputs are not kept."""
        whose = f"`{self.option}` puts" if self.option else "names in both files put"
        return f"{whose} rows in another order"


class Namer:
    """Which axes of a recipient's tensors go by name; where none does, what there is instead.

    Attributes:
        used: options whose names were needed, and "" where those in both files were.
    """

    def __init__(self, namings: Sequence[Naming]) -> None:
        self.used: set[str] = set()
        self._namings = namings
        self._seen: dict[str, dict[tuple[int, int], None]] = {naming.option: {} for naming in namings}

    def in_files(self, donor: ir.Model, model: ir.Model) -> Naming | None:
        """What `naming_in_files` says, for `of`; None where an option names the classes, which goes before that."""
        if any(naming.option == "classes" for naming in self._namings):
            return None
        return naming_in_files(donor, model)

    def of(self, *, is_table: bool, size: int, have: int, in_files: Naming | None) -> Naming | None:
        """The names of the rows of a classifier, or of a table of tokens; None where there are none for it.

        Classes are those of classifiers alone; tokens are read from tables, and classifiers tell them apart.

        Args:
            size, have: how many rows there are, and how many the donor has.
            in_files: the names of classes that both files hold.
        """
        for naming in self._namings:
            if is_table and naming.option == "classes":
                continue
            self._seen[naming.option][(size, have)] = None
            if (naming.mine, naming.theirs) == (size, have):
                self.used.add(naming.option)
                return naming
        if in_files is None or is_table or (in_files.mine, in_files.theirs) != (size, have):
            return None
        self.used.add(in_files.option)
        return in_files

    def check(self) -> None:
        """Raise OptionError for names that no tensor has the rows of."""
        for naming in self._namings:
            if naming.option in self.used:
                continue
            seen = list(self._seen[naming.option])[:_SHOWN]
            there = ", ".join(f"{have:,} and {size:,}" for size, have in seen)
            raise OptionError(
                f"`{naming.option}` has {naming.theirs:,} names of the donor and {naming.mine:,} of the model, and no "
                f"rows of theirs are as many: there are {there or 'none that go by name'}"
            )


def naming_of(option: str, given: object) -> Naming:
    """Read the names of a donor and of a recipient.

    Args:
        option: classes, whose names are compared without regard to case, underscores and spaces around them; or
            vocabulary, whose tokens are compared as they are.
        given: "DONOR.txt:NEW.txt", or a pair of which each is a file or a sequence of names. A file has a name on each
            line, or is JSON: a list, {index: name}, {name: index}, or an object that has one of these as `id2label`.

    Raises:
        OptionError: a file that cannot be read, a name that stands twice, indices that are not 0 to n - 1, or nothing
            in common.
    """
    theirs, mine = (_names(option, part) for part in _parts(option, given))
    naming = Naming.between(option, theirs, mine)
    if (naming.index < 0).all():
        raise OptionError(f"`{option}`: the donor's names and the model's have none in common, first {mine[0]!r}")
    return naming


def naming_in_files(donor: ir.Model, model: ir.Model) -> Naming | None:
    """What the names of classes that both files hold say; None where one has none, or both have the same in one order.

    Names that stand twice, that are not numbered from 0 on, or that are numbers themselves are none.
    """
    theirs, mine = (_names_in(each) for each in (donor, model))
    if not theirs or not mine or theirs == mine:
        return None
    return Naming.between("", theirs, mine)


def _names_in(model: ir.Model) -> list[str]:
    for key in _KEYS:
        text = model.metadata_props.get(key, "")
        if not 2 <= len(text) <= _LONGEST:
            continue
        try:
            names = _names("classes", _parsed(text))
        except OptionError:  # other people's notes: what is no list of names says nothing
            continue
        if not all(map(_NUMBERED.fullmatch, names)):
            return names
    return []


def _parsed(text: str) -> object:
    """JSON, or Python's text of a dictionary or a list. Raises OptionError for anything else."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    raise OptionError("`classes`: no list of names")


def _parts(option: str, given: object) -> tuple[object, object]:
    if isinstance(given, str):
        places = [i for i, letter in enumerate(given) if letter == ":" and 0 < i < len(given) - 1]
        pairs = [(given[:i], given[i + 1 :]) for i in places]
        # A drive of Windows has a colon, too.
        found = next((pair for pair in pairs if all(map(os.path.isfile, pair))), pairs[0] if len(pairs) == 1 else None)
        if found is None:
            raise OptionError(f"`{option}` {given!r} names no two files: give it as DONOR.txt:NEW.txt")
        return found
    if not isinstance(given, Sequence) or len(given) != 2:
        raise OptionError(f"`{option}` is a pair: the donor's names and the model's, each a file or a list")
    return given[0], given[1]


def _names(option: str, part: object) -> list[str]:
    """The names of one of both, as they are compared."""
    where = f"`{option}`"
    if isinstance(part, str | os.PathLike):
        where = f"`{option}` {os.fspath(part)}"
        names = _read(where, os.fspath(part))
    else:
        names = _listed(where, part)
    if not names:
        raise OptionError(f"{where}: there are no names in it")
    if option == "classes":
        names = [" ".join(name.replace("_", " ").split()).casefold() for name in names]
        if "" in names:
            raise OptionError(f"{where}: name {names.index('') + 1} is empty")
    twice = next((name for name, times in collections.Counter(names).items() if times > 1), None)
    if twice is not None:
        first = names.index(twice)
        again = names.index(twice, first + 1)
        raise OptionError(f"{where}: {twice!r} stands twice, as names {first + 1} and {again + 1}")
    return names


def _read(where: str, path: str) -> list[str]:
    try:
        text = read_regular(path, _LARGEST).decode("utf-8-sig")
    except OSError as error:
        raise OptionError(f"{where} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise OptionError(f"{where} is no text in UTF-8: {error}") from error
    if path.lower().endswith(".json"):
        try:
            return _listed(where, json.loads(text))
        except (ValueError, RecursionError) as error:
            raise OptionError(f"{where} is no JSON: {error}") from error
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _listed(where: str, value: object) -> list[str]:
    """The names of a list, of {index: name}, or of {name: index}."""
    if isinstance(value, Mapping) and "id2label" in value:
        value = value["id2label"]
    if isinstance(value, Mapping):
        turned = all(isinstance(each, int) and not isinstance(each, bool) for each in value.values())
        pairs = [(index, name) if turned else (name, index) for name, index in value.items()]
        by_index = {str(index): name for index, name in pairs}
        if len(by_index) != len(value) or by_index.keys() != {str(i) for i in range(len(value))}:
            raise OptionError(f"{where}: its indices are not 0 to {len(value) - 1}, each once")
        value = [by_index[str(i)] for i in range(len(value))]
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise OptionError(f"{where}: it is neither a list of names nor {{index: name}}")
    names = [name for name in value if isinstance(name, str)]
    if len(names) < len(value):
        raise OptionError(f"{where}: {len(value) - len(names)} of its {len(value)} names are no texts")
    return names
