"""What the exporters of JAX's frameworks share: jax2onnx, and weights as the leaves of a tree."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.exporters.missing import require
from onnx_ghn.exporters.output import quiet

__all__ = ["LiveTree", "convert", "exporter_name", "is_weight", "like", "path_name", "shapes_of"]

Array = npt.NDArray[Any]


def exporter_name(package: str) -> str:
    """The framework's and jax2onnx's versions. Raises OptionError where one is not installed."""
    require(package, package)
    require("jax2onnx", package)
    return f"{package} {importlib.metadata.version(package)}, jax2onnx {importlib.metadata.version('jax2onnx')}"


def convert(function: Callable[..., Any], example_inputs: Any, path: Path, name: str) -> Path:
    """Write a function of arrays, with the weights that it closes over, as ONNX.

    Raises:
        GraphError: jax2onnx cannot.
    """
    import jax2onnx

    if example_inputs is None:
        raise OptionError("the model has to be exported once more, to compare: give example_inputs")
    try:
        with quiet("jax2onnx"):
            jax2onnx.to_onnx(function, shapes_of(example_inputs), return_mode="file", output_path=str(path))
    except Exception as error:  # whatever a foreign model's call raises, too
        raise GraphError(f"{name}: jax2onnx cannot export it ({type(error).__name__}: {error})") from error
    return path


class LiveTree:
    """Weights as the leaves of a tree, for frameworks whose modules cannot be changed: a new tree takes its place."""

    numbered = False

    def tree(self) -> Any:
        """The tree as it is now."""
        raise NotImplementedError

    def replace(self, tree: Any) -> None:
        """Put another in its place."""
        raise NotImplementedError

    def leaves(self) -> dict[str, Any]:
        """Its arrays of floats by name."""
        import jax

        leaves = jax.tree_util.tree_leaves_with_path(self.tree())
        return {path_name(path): leaf for path, leaf in leaves if is_weight(leaf)}

    def read(self) -> dict[str, Array]:
        """Copies of all arrays of floats."""
        return {name: np.array(leaf) for name, leaf in self.leaves().items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Put a tree with these arrays in the place of the old one."""
        import jax

        def new(path: Any, leaf: Any) -> Any:
            name = path_name(path)
            return like(values[name], leaf) if name in values else leaf

        self.replace(jax.tree_util.tree_map_with_path(new, self.tree()))


def shapes_of(example_inputs: Any) -> list[Any]:
    """Of one array, a shape (numbers, and names of free dimensions), or a list of such, as jax2onnx takes them."""
    several = isinstance(example_inputs, list) or (
        isinstance(example_inputs, tuple) and not all(isinstance(n, int | str) for n in example_inputs)
    )
    inputs: Sequence[Any] = example_inputs if several else [example_inputs]
    return [given if isinstance(given, tuple) else np.asarray(given) for given in inputs]


def is_weight(value: Any) -> bool:
    """Whether a leaf is a floating-point array (and no random key)."""
    import jax.numpy as jnp

    return hasattr(value, "dtype") and hasattr(value, "shape") and bool(jnp.issubdtype(value.dtype, jnp.floating))


def like(value: Array, old: Any) -> Any:
    """A numpy array as a jax array, where the old one lies."""
    import jax

    return jax.device_put(value, getattr(old, "sharding", None))


def path_name(path: Sequence[Any]) -> str:
    """Of a leaf: its keys, attributes and indices, joined by slashes."""
    parts = []
    for part in path:
        for attribute in ("key", "name", "idx"):
            if hasattr(part, attribute):
                part = getattr(part, attribute)
                break
        parts.append(str(part))
    return "/".join(parts)
