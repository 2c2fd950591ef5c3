"""What the exporters of JAX's frameworks share: jax2onnx, and weights as the leaves of a tree."""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import GraphError
from onnx_ghn.exporters.missing import require

__all__ = ["convert", "exporter_name", "is_weight", "like", "path_name", "shapes_of"]

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

    logger = logging.getLogger("jax2onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jax2onnx.to_onnx(function, shapes_of(example_inputs), return_mode="file", output_path=str(path))
    except Exception as error:  # whatever a foreign model's call raises, too
        raise GraphError(f"{name}: jax2onnx cannot export it ({type(error).__name__}: {error})") from error
    finally:
        logger.setLevel(level)
    return path


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
