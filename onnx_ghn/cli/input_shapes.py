"""The shapes of `--shape`, by the inputs that they are of."""

from __future__ import annotations

from onnx_ghn.errors import OptionError

__all__ = ["GivenShapes", "shapes_by_input"]

GivenShapes = tuple[tuple[str, tuple[tuple[int, ...], ...]], ...]  # inputs, "" for the only one, and shapes of each


def shapes_by_input(model: str, shapes: GivenShapes) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Shapes by input; those without a name are for the only input.

    Raises:
        OptionError: an input has two, or it is not said which input is meant.
    """
    found: dict[str, tuple[tuple[int, ...], ...]] = {}
    for name, several in shapes:
        if not name:
            from onnx_ghn.profiling.specs import model_spec

            names = [spec.name for spec in model_spec(model).inputs]
            if len(names) != 1:
                raise OptionError(f"--shape: say of which input, INPUT:DIMS; the inputs are {', '.join(names)}")
            name = names[0]
        if name in found:
            raise OptionError(f"--shape: input {name!r} has two; write them with a comma between, DIMS,DIMS")
        found[name] = several
    return found
