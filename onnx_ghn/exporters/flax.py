"""Flax: nnx modules, and linen modules with their variables, are exported by jax2onnx."""

from __future__ import annotations

import dataclasses
import functools
import os
import types
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from onnx_ghn.errors import OptionError
from onnx_ghn.exporters import jax_arrays
from onnx_ghn.exporters.bridge import Bridge
from onnx_ghn.exporters.initializing import Initialization
from onnx_ghn.exporters.live import LiveModel
from onnx_ghn.exporters.output import quiet
from onnx_ghn.exporters.weight_map import Array
from onnx_ghn.installing import require
from onnx_ghn.prediction.options import PredictKeywords, PredictOptions

if TYPE_CHECKING:
    import jax
    from flax import linen, nnx

    from onnx_ghn.ghn import GHN, ArrayGHN

__all__ = ["LinenModel", "LiveLinen", "LiveNNX", "export", "initialize", "initialized", "load", "save_weights"]


@dataclasses.dataclass
class LinenModel:
    """A linen module, which holds no weights, and its variables, which `load` replaces.

    Attributes:
        module: the module.
        variables: its collections of variables: "params", "batch_stats", …
        apply_options: keyword arguments of `module.apply` for inference, such as {"train": False}.
    """

    module: linen.Module
    variables: Mapping[str, object]
    apply_options: Mapping[str, object] = dataclasses.field(default_factory=dict)


class LiveNNX(jax_arrays.ByJax2onnx):
    """Adapts an nnx.Module to `roundtrip.LiveModel`.

    Args:
        example_inputs: an array or a shape, or a list of them. A name in a shape stands for any size.
    """

    framework = "flax"

    def __init__(self, model: nnx.Module, example_inputs: object = None) -> None:
        from flax import nnx

        self.exporter = jax_arrays.exporter_name("flax")
        self._model, self._inputs = model, example_inputs
        flat = nnx.to_flat_state(nnx.state(model))
        self._variables = {
            "/".join(map(str, path)): variable
            for path, variable in zip(flat.paths, flat.leaves, strict=True)
            if jax_arrays.is_weight(_value(variable))
        }
        self._paths = {"/".join(map(str, path)): path for path in flat.paths}

    @property
    def paths(self) -> Mapping[str, tuple[str | int, ...]]:
        """Those of the module's state, by our names for them: items of an `nnx.List` are numbers."""
        return self._paths

    def read(self) -> dict[str, Array]:
        """Copies of parameters, batch statistics and other floating-point variables."""
        return {name: np.array(_value(self._at(self._paths[name]))) for name in self._variables}

    def write(self, values: Mapping[str, Array]) -> None:
        """Set variables of the module in place."""
        for name in self._variables:
            if name in values:
                *to, last = self._paths[name]
                variable, holder = self._at(self._paths[name]), self._at(to)
                new = jax_arrays.like(values[name], _value(variable))
                if hasattr(variable, "set_value"):
                    variable.set_value(new)
                elif isinstance(last, str) and hasattr(holder, last):
                    setattr(holder, last, new)
                else:
                    holder[last] = new

    def trainable(self) -> Set[str]:
        """Variables of type nnx.Param."""
        from flax import nnx

        return {name for name, variable in self._variables.items() if isinstance(variable, nnx.Param)}

    def convert(self, folder: Path) -> Path:
        """Convert a copy in inference mode, by jax2onnx.

        Layers that compute in half precision do so in float32 there: jax2onnx would round their weights, and runtimes
        for processors have no convolution in bfloat16.
        """
        import jax
        from flax import nnx

        copy = nnx.clone(self._model)
        copy.eval()
        for _, part in nnx.iter_graph(copy):
            if isinstance(part, nnx.Module) and _is_half(getattr(part, "dtype", None)):
                part.dtype = np.float32
        definition, state = nnx.split(copy)
        leaves, tree = jax.tree.flatten(state)
        is_key = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
        # A file holds no keys, but the numbers that they are of: cells draw the states that they begin with.
        held = [jax.random.key_data(leaf) if key else leaf for leaf, key in zip(leaves, is_key, strict=True)]
        kinds = [jax.random.key_impl(leaf) if key else None for leaf, key in zip(leaves, is_key, strict=True)]

        def call(*inputs: object) -> object:
            # Variables made within the trace: transformations (the scan of nnx.RNN) refuse those from outside.
            inside = [
                jax.random.wrap_key_data(leaf, impl=kind) if kind is not None else leaf
                for leaf, kind in zip(held, kinds, strict=True)
            ]
            return nnx.merge(definition, jax.tree.unflatten(tree, inside))(*inputs)

        return jax_arrays.convert(_as_flax_calls(call), self._inputs, folder / "model.onnx", type(self._model).__name__)

    def _at(self, path: Sequence[str | int]) -> Any:
        """The module's own part, since a state holds copies: a variable, an array as it is (nnx.WeightNorm), a list."""
        part: Any = self._model
        for key in path:
            part = getattr(part, key) if isinstance(key, str) and hasattr(part, key) else part[key]
        return part


def _is_half(dtype: object) -> bool:
    """Whether a type that a layer is told to compute in is float16 or bfloat16."""
    import jax.numpy as jnp

    return dtype is not None and jnp.dtype(dtype) in (jnp.float16, jnp.bfloat16)


def _value(leaf: Any) -> jax.Array:
    """The array of a variable, or of a module that holds it as it is."""
    array: jax.Array = leaf.get_value() if hasattr(leaf, "get_value") else leaf
    return array


class LiveLinen(jax_arrays.LiveTree[Mapping[str, object]]):
    """Adapts a `LinenModel` to `roundtrip.LiveModel`; `load` gives it new variables."""

    framework = "flax"

    def __init__(self, model: LinenModel, example_inputs: object = None) -> None:
        self.exporter = jax_arrays.exporter_name("flax")
        self._model, self._inputs = model, example_inputs

    def tree(self) -> Mapping[str, object]:
        """The variables."""
        return self._model.variables

    def replace(self, tree: Mapping[str, object]) -> None:
        """Put other variables in their place."""
        self._model.variables = tree

    def trainable(self) -> Set[str]:
        """The variables of the collection "params"."""
        return {name for name in self.leaves() if name.startswith("params/")}

    def convert(self, folder: Path) -> Path:
        """Convert the module's `apply` with its present variables, by jax2onnx; half precision as in `LiveNNX`."""
        from flax import linen

        module, variables, options = self._model.module, self._model.variables, dict(self._model.apply_options)

        def apply(*inputs: object) -> object:
            with linen.intercept_methods(_in_float32):
                return module.apply(variables, *inputs, **options)

        return jax_arrays.convert(_as_flax_calls(apply), self._inputs, folder / "model.onnx", type(module).__name__)


def _in_float32(
    call: Callable[..., object], args: Any, kwargs: Any, context: linen.module.InterceptorContext
) -> object:
    """Call a method of a bound module, whose layers are copies for this one call, so that it computes in float32."""
    if _is_half(getattr(context.module, "dtype", None)):
        object.__setattr__(context.module, "dtype", np.float32)  # a bound module refuses new values of its fields
    return call(*args, **kwargs)


_POOLED_BY = ("window_shape", "strides", "padding", "count_include_pad")


def _as_flax_calls(function: Callable[..., object]) -> Callable[..., object]:
    """A function in which Flax's own functions work as they do without jax2onnx (0.17).

    While it converts, it has functions in the place of Flax's poolings that take windows by keyword alone, and one in
    the place of jax.numpy.shape that gives no numbers, which linen's scan of layers and steps needs. And it refuses the
    split of a random key, of which linen's LSTMs make zeros.
    """
    from flax import linen, nnx
    from flax.core import axes_scan
    from flax.linen import recurrent

    def by_keyword(pool: Callable[..., object], inputs: object, *given: object, **named: object) -> object:
        return pool(inputs, **dict(zip(_POOLED_BY, given, strict=False)), **named)

    def call(*inputs: object) -> object:
        places = [(module, name) for module in (nnx, linen) for name in ("avg_pool", "max_pool", "min_pool")]
        before = [(module, name, getattr(module, name)) for module, name in places if hasattr(module, name)]
        new: dict[tuple[Any, str], object] = {}
        new |= {(module, name): functools.partial(by_keyword, pool) for module, name, pool in before}
        if describe := getattr(axes_scan, "build_shaped_array", None):
            before.append((axes_scan, "build_shaped_array", describe))
            new[axes_scan, "build_shaped_array"] = functools.partial(_with_numbers, describe)
        if random := getattr(recurrent, "random", None):
            keys = {"key": functools.partial(_key, random), "split": functools.partial(_split, random)}
            before.append((recurrent, "random", random))
            new[recurrent, "random"] = types.SimpleNamespace(**{**vars(random), **keys})
        try:
            for (module, name), replacement in new.items():
                setattr(module, name, replacement)
            return function(*inputs)
        finally:
            for module, name, own in before:
                setattr(module, name, own)

    return call


def _with_numbers(function: Callable[..., object], *given: object, **named: object) -> object:
    """Call a function for which jax.numpy.shape gives the sizes that JAX knows."""
    import jax.numpy as jnp

    before = jnp.shape
    jnp.shape = np.shape
    try:
        return function(*given, **named)
    finally:
        jnp.shape = before


def _key(random: Any, *given: object, **named: object) -> object:
    """A random key that is made before the trace, of which nothing is left in it."""
    import jax

    with jax.ensure_compile_time_eval():
        return random.key(*given, **named)


def _split(random: Any, *given: object, **named: object) -> list[object]:
    """Keys of a key, as `_key` makes one."""
    import jax

    with jax.ensure_compile_time_eval():
        return list(random.split(*given, **named))


def save_weights(model: nnx.Module | LinenModel, path: Path) -> None:
    """Save the weights as a tree of dicts of arrays.

    The file is msgpack, which `flax.serialization.msgpack_restore` reads, and `nnx.update` takes as it is. Where the
    path ends in .orbax, it is a folder, which `orbax.checkpoint.PyTreeCheckpointer().restore` reads. Orbax names the
    items of an `nnx.List` by text: `nnx.restore_int_paths` makes numbers of them again, which `nnx.update` wants.
    """
    from flax import serialization, traverse_util

    live = _live(model)
    paths = live.paths if isinstance(live, LiveNNX) else {}
    tree = traverse_util.unflatten_dict(
        {paths.get(name, tuple(name.split("/"))): value for name, value in live.read().items()}
    )
    if path.suffix == ".orbax":
        orbax = require("orbax.checkpoint", "flax")
        with quiet("absl"):
            orbax.PyTreeCheckpointer().save(path.resolve(), tree)
    else:
        path.write_bytes(serialization.msgpack_serialize(tree))


def _live(model: nnx.Module | LinenModel, example_inputs: object = None) -> LiveModel:
    nnx = require("flax.nnx", "flax")
    if isinstance(model, LinenModel):
        return LiveLinen(model, example_inputs)
    if isinstance(model, nnx.Module):
        return LiveNNX(model, example_inputs)
    raise OptionError(f"a {type(model).__name__} is neither an nnx.Module nor a LinenModel(module, variables)")


def initialized(
    module: linen.Module,
    variables: Mapping[str, object],
    example_inputs: object,
    options: PredictOptions | None = None,
    *,
    ghn: str | os.PathLike[str] | GHN | ArrayGHN | None = None,
    apply_options: Mapping[str, object] | None = None,
    **changes: Unpack[PredictKeywords],
) -> tuple[Mapping[str, object], Initialization]:
    """New variables of a linen module with predicted weights, as `module.init` gives them, and what was predicted.

    The given variables stay as they are, as is the way of JAX.

    Args:
        variables: what `module.init` gave.
        example_inputs: an array or a shape, or a list of them.
        options, ghn, changes: as for `initialize`.
        apply_options: see `LinenModel`.

    Raises:
        OnnxGhnError: see `initialize`.
    """
    model = LinenModel(module, variables, apply_options or {})
    report = initialize(model, example_inputs, options, ghn=ghn, **changes)
    return model.variables, report


_bridge = Bridge(_live)
export, load, initialize = _bridge.export, _bridge.load, _bridge.initialize
