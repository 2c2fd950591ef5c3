"""Symbols of declared shapes: names of sizes (`sequence`), and sums of them (`past_sequence + 1`)."""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Mapping

__all__ = ["Sum", "as_symbol", "sum_of"]

_UNNAMED = frozenset({"", "?", "None", "none", "-1"})  # what tools write where a dimension has no name


@dataclasses.dataclass(frozen=True)
class Sum:
    """A whole number plus multiples of symbols."""

    factors: tuple[tuple[str, int], ...]  # of symbols
    constant: int = 0

    @property
    def symbols(self) -> tuple[str, ...]:
        """In the order in which they are written."""
        return tuple(name for name, _ in self.factors)

    def size(self, known: Mapping[str, int]) -> int | None:
        """Its value; None while a symbol has no size."""
        if any(name not in known for name in self.symbols):
            return None
        return self.constant + sum(factor * known[name] for name, factor in self.factors)

    def solved(self, size: int, known: Mapping[str, int]) -> tuple[str, int] | None:
        """The only symbol that has no size yet, and the size that gives the sum this value.

        None where there are more or fewer such symbols, or where no whole number from 0 does.
        """
        open_ = [(name, factor) for name, factor in self.factors if name not in known]
        if len(open_) != 1:
            return None
        name, factor = open_[0]
        rest = size - self.constant - sum(other * known[one] for one, other in self.factors if one in known)
        return (name, rest // factor) if rest % factor == 0 and rest // factor >= 0 else None


def as_symbol(value: object) -> str | None:
    """The text of a symbolic dimension; None where it has no name."""
    return value if isinstance(value, str) and value.strip() not in _UNNAMED else None


@functools.lru_cache(maxsize=4096)
def sum_of(text: str) -> Sum:
    """The sum that a symbolic dimension writes; what is no sum (`batch x heads`, `n // 2`) is a symbol of that name."""
    try:
        factors, constant = _terms(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Sum(((text, 1),))
    kept = tuple((name, factor) for name, factor in factors.items() if factor)
    return Sum(kept, constant) if kept else Sum(((text, 1),))


def _terms(node: ast.expr) -> tuple[dict[str, int], int]:
    """Factors of symbols, and the constant. Raises ValueError: it is no sum of whole multiples."""
    match node:
        case ast.Name(id=name):
            return {name: 1}, 0
        case ast.Constant(value=int() as number):
            return {}, int(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _scaled(_terms(operand), -1)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as sign, right=right):
            (factors, constant), (others, more) = _terms(left), _terms(right)
            others, more = _scaled((others, more), 1 if isinstance(sign, ast.Add) else -1)
            names = dict.fromkeys([*factors, *others])
            return {name: factors.get(name, 0) + others.get(name, 0) for name in names}, constant + more
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            one, other = _terms(left), _terms(right)
            if not one[0]:
                return _scaled(other, one[1])
            if not other[0]:
                return _scaled(one, other[1])
    raise ValueError("no sum")


def _scaled(terms: tuple[dict[str, int], int], by: int) -> tuple[dict[str, int], int]:
    return {name: factor * by for name, factor in terms[0].items()}, terms[1] * by
