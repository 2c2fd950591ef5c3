"""Inputs of a decoder with a key-value cache, as optimum, Olive and onnxruntime's own exporters name them.

`past_key_values.0.key` or `past_0` is fed back from `present.0.key` or `present_0`; masks, positions and lengths follow
from how many tokens are cached and how many are new.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.cache_roles import PAST, cache_role, following
from onnx_ghn.errors import OptionError
from onnx_ghn.limits import gib, memory_bytes
from onnx_ghn.profiling.random_arrays import drawn_bytes, random_array
from onnx_ghn.profiling.sizing import candidate_shapes, described, symbols_of
from onnx_ghn.profiling.specs import InputSpec
from onnx_ghn.profiling.symbols import sum_of

__all__ = ["CacheInputs", "cache_inputs"]

Feed = dict[str, Array]
_PRESENT = re.compile(r"present(?:_key_values|_kv)?[._]?(.*\d.*)")
_SEQUENCE = re.compile(r"past|seq|total|len|cache")
_ENCODED = 64  # states of an encoder, where nothing names their number


@dataclasses.dataclass(frozen=True)
class CacheInputs:
    """The inputs of a decoder by what they are."""

    specs: tuple[InputSpec, ...]
    roles: Mapping[str, str]  # by name; "cache" for what is fed back, "encoder" for the encoder's keys and values

    @property
    def fed_back(self) -> tuple[InputSpec, ...]:
        """The cache of the tokens."""
        return tuple(spec for spec in self.specs if self.roles[spec.name] == "cache")

    @property
    def prefills(self) -> bool:
        """Whether the declarations allow many tokens and no cache: some files are for one token and a cache alone."""
        tokens = self._tokens
        masks = [spec for spec in self.specs if self.roles[spec.name] == "mask" and len(spec.dims) == 2]
        singles = [text for spec in masks if (text := spec.symbol(1)) is not None and _is_one_more(text)]
        return tokens.dims[1] is None and not (singles and "branch" not in self.roles.values())

    @property
    def _tokens(self) -> InputSpec:
        return next(spec for spec in self.specs if self.roles[spec.name] == "tokens")

    def presents(self, outputs: Iterable[str]) -> dict[str, str]:
        """The cache inputs, each with the output that is fed back to it.

        Raises:
            OptionError: one has none.
        """
        keys = {match[1]: name for name in outputs if (match := _PRESENT.fullmatch(name))}
        found = {}
        for spec in self.specs:
            match = PAST.fullmatch(spec.name)
            if match is None or self.roles[spec.name] not in ("cache", "encoder"):
                continue
            if match[1] in keys:
                found[spec.name] = keys[match[1]]
            elif self.roles[spec.name] == "cache":
                raise OptionError(
                    f"input {spec.name!r} is a cache, but no output present.{match[1]} is fed back to it; export the "
                    "model with its cache as outputs"
                )
        return found

    def feed(
        self,
        cached: int,
        new: int,
        *,
        batch: int = 1,
        sizes: Mapping[str, int] | None = None,
        seed: int = 0,
        drawn: bool = True,
    ) -> Feed:
        """Random tokens and cache, and what goes with them.

        Args:
            cached: tokens in the cache; with 0 a merged decoder takes its branch without one.
            new: tokens to be run.
            sizes: of symbols that are neither: an encoder's states, for instance.
            drawn: False for a cache of the right type and shape that takes no memory and cannot be run on.

        Raises:
            OptionError: a dimension whose size nothing tells.
        """
        rng = np.random.default_rng(seed)
        given = dict(sizes or {})
        self._check_memory(cached, new, batch, given)
        found: Feed = {}
        others = []
        for spec in self.specs:
            role = self.roles[spec.name]
            if role == "tokens":
                found[spec.name] = self.tokens(spec, batch, new, given, rng)
            elif role == "cache":
                # The branch without a cache does not look at one, but onnxruntime wants it to have a length.
                length = 1 if not cached and "branch" in self.roles.values() else cached
                shape = _cache_shape(spec, batch, length, given)
                blank = random_array(rng, spec, (1,) * len(shape))  # which refuses types that numpy does not feed
                found[spec.name] = random_array(rng, spec, shape) if drawn else np.broadcast_to(blank, shape)
            elif role not in ("other", "encoder", "ones", "zeros"):
                found[spec.name] = self._following(spec, role, cached, new, batch)
            else:
                others.append(spec)
        return found | self._others(others, batch, new, given, rng)

    def _check_memory(self, cached: int, new: int, batch: int, sizes: Mapping[str, int]) -> None:
        """Refuse what the memory does not hold before any of it is made. Raises OptionError."""
        needed_bytes = 0
        for spec in self.specs:
            role, rank = self.roles[spec.name], len(spec.dims)
            if role == "cache":
                needed_bytes += drawn_bytes(_cache_shape(spec, batch, cached, sizes))
            elif role in ("mask", "positions", "tokens", "zeros"):
                needed_bytes += 8 * batch * (cached + new) * (new if role == "mask" and rank > 2 else 1)
        if needed_bytes > memory_bytes() / 2:
            raise OptionError(
                f"{cached} cached tokens and {new} new ones need {gib(needed_bytes)} of inputs, more than half of this "
                "machine's memory; choose a smaller `context` or `batch`"
            )

    def step(self, cached: int, tokens: Array) -> Feed:
        """What goes with one more token each, (batch,): all that changes but the cache."""
        found: Feed = {}
        for spec, role in self._changing:
            if role == "tokens":
                found[spec.name] = tokens[:, None].astype(spec.dtype, copy=False)  # (batch, 1)
            elif role == "zeros":
                found[spec.name] = np.zeros((len(tokens), 1), spec.dtype)
            else:
                found[spec.name] = self._following(spec, role, cached, 1, len(tokens))
        return found

    @functools.cached_property
    def _changing(self) -> list[tuple[InputSpec, str]]:
        """The inputs of `step`, with their roles."""
        small = ("mask", "positions", "branch", "last", "total", "past", "one", "zeros")
        roles = [(spec, self.roles[spec.name]) for spec in self.specs]
        return [(spec, role) for spec, role in roles if role in small or (role == "tokens" and len(spec.dims) == 2)]

    def tokens(
        self, spec: InputSpec, batch: int, new: int, sizes: Mapping[str, int], rng: np.random.Generator
    ) -> Array:
        """Random tokens (batch, new), or vectors of them (batch, new, width)."""
        shape = (batch, new, *(_known(spec, axis, sizes) for axis in range(2, len(spec.dims))))
        return random_array(rng, spec, shape)

    def _following(self, spec: InputSpec, role: str, cached: int, new: int, batch: int) -> Array:
        return following(role, spec.dims, spec.dtype, cached=cached, new=new, batch=batch)

    def _others(
        self, others: Sequence[InputSpec], batch: int, new: int, sizes: Mapping[str, int], rng: np.random.Generator
    ) -> Feed:
        """Inputs that have nothing to do with the number of cached tokens."""
        if not others:
            return {}
        plain = [spec for spec in others if self.roles[spec.name] != "zeros"]
        known = symbols_of(plain)
        encoded = {name: _ENCODED for name in known if name.startswith("encoder_sequence")}
        told = encoded | {name: size for name, size in sizes.items() if name in known}
        free = any(spec.dims and spec.dims[0] is None for spec in plain)
        sized = next(candidate_shapes(plain, batch=batch if free else None, sizes=told))
        found = {spec.name: np.zeros((batch, new), spec.dtype) for spec in others if spec not in plain}
        for spec in plain:
            shape = sized.shapes[spec.name]
            ones = self.roles[spec.name] == "ones"
            found[spec.name] = np.ones(shape, spec.dtype) if ones else random_array(rng, spec, shape)
        return found


def cache_inputs(specs: Sequence[InputSpec]) -> CacheInputs | None:
    """What the inputs of a decoder are; None where the model takes no tokens and cache."""
    roles = {spec.name: _role(spec) for spec in specs}
    if "tokens" not in roles.values() or "cache" not in roles.values():
        return None
    return CacheInputs(tuple(specs), roles)


def _role(spec: InputSpec) -> str:
    role = cache_role(spec.name)
    return role if role in ("cache", "encoder") else spec.role or role


def _is_one_more(text: str) -> bool:
    """Whether a mask's length is that of the cache and one token."""
    total = sum_of(text)
    return total.constant == 1 and len(total.factors) == 1


def _cache_shape(spec: InputSpec, batch: int, length: int, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a cache of some tokens. The axis of tokens is the free one that is named so, else the third."""
    free = [axis for axis, dim in enumerate(spec.dims) if dim is None]
    first = next((axis for axis in free if "batch" in (spec.symbol(axis) or "")), free[0] if free else None)
    named = [axis for axis in free if axis != first and _SEQUENCE.search((spec.symbol(axis) or "").lower())]
    rest = [axis for axis in free if axis != first]
    at = named[0] if named else rest[0] if len(rest) == 1 else max(len(spec.dims) - 2, 0) if rest else None
    shape = []
    for axis, dim in enumerate(spec.dims):
        if dim is not None:
            shape.append(dim)
        elif axis == at:
            shape.append(length)
        elif axis == first:
            shape.append(sizes.get(spec.symbol(axis) or "", batch))
        else:
            shape.append(_known(spec, axis, sizes))
    return tuple(shape)


def _known(spec: InputSpec, axis: int, sizes: Mapping[str, int]) -> int:
    dim, text = spec.dims[axis], spec.symbol(axis)
    if dim is not None:
        return dim
    size = None if text is None else sum_of(text).size(sizes)
    if size is None:
        raise OptionError(
            f"input {described([spec])}: nothing tells the size of dimension {axis}; "
            + (f"give that of {text} in `size`" if text is not None else "export the model with it")
        )
    return size
