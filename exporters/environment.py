"""Write the requirements of each framework's environment, from the dependencies and extras in pyproject.toml.

    python exporters/environment.py    # rewrites exporters/requirements/*.txt

Frameworks whose pins agree share an environment. The pins of most disagree with those of torch, so that only the
environment of PyTorch's own models has torch.
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
FOLDER = Path(__file__).parent / "requirements"


@dataclasses.dataclass(frozen=True)
class Environment:
    """An environment for the exports of some frameworks.

    Attributes:
        frameworks: their names, as in `onnx_ghn.exporters.registry`.
        extras: the extras of onnx-ghn that it installs.
        backends: packages that users of the frameworks install themselves.
        torch: whether it has torch.
    """

    frameworks: tuple[str, ...]
    extras: tuple[str, ...]
    backends: tuple[str, ...] = ()
    torch: bool = False


ENVIRONMENTS = {
    "torch": Environment(("torch", "torchvision", "timm", "hf", "sklearn"), ("torch", "hf", "sklearn"), torch=True),
    "keras": Environment(("keras", "tensorflow"), ("keras", "tensorflow"), ("tensorflow-cpu>=2.18",)),
    "flax": Environment(("flax", "equinox"), ("flax", "equinox", "keras"), ("jax>=0.4.38",)),
    "paddle": Environment(("paddle",), ("paddle",)),
    "mindspore": Environment(("mindspore",), ("mindspore",), ("numpy<2",)),
}


def requirements(name: str) -> str:
    """The content of an environment's requirements file."""
    environment = ENVIRONMENTS[name]
    project = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]
    core = [line for line in project["dependencies"] if environment.torch or not line.startswith("torch")]
    extras = [line for extra in environment.extras for line in project["optional-dependencies"][extra]]
    lines = dict.fromkeys([*core, *environment.backends, *extras])
    header = f"# {', '.join(environment.frameworks)}. Written by exporters/environment.py; do not edit.\n"
    return header + "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    for name in ENVIRONMENTS:
        (FOLDER / f"{name}.txt").write_text(requirements(name), encoding="utf-8")
