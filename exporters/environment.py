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
    """

    frameworks: tuple[str, ...]
    extras: tuple[str, ...]
    backends: tuple[str, ...] = ()


ENVIRONMENTS = {
    "torch": Environment(("torch", "torchvision", "timm", "hf", "sklearn"), ("torch", "hf", "sklearn")),
    "keras": Environment(("keras", "tensorflow"), ("keras", "tensorflow"), ("tensorflow-cpu>=2.18",)),
    "flax": Environment(("flax", "equinox"), ("flax", "equinox", "keras"), ("jax>=0.4.38",)),
    "paddle": Environment(("paddle",), ("paddle",)),
    "mindspore": Environment(("mindspore",), ("mindspore",), ("numpy<2",)),
}


def requirements(name: str) -> str:
    """The content of an environment's requirements file."""
    environment = ENVIRONMENTS[name]
    project = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    chosen = [line for extra in ("cpu", *environment.extras) for line in _expanded(extras, extra)]
    lines = dict.fromkeys([*project["dependencies"], *environment.backends, *chosen])
    header = f"# {', '.join(environment.frameworks)}. Written by exporters/environment.py; do not edit.\n"
    return header + "".join(f"{line}\n" for line in lines)


def _expanded(extras: dict[str, list[str]], name: str) -> list[str]:
    """The requirements of an extra, and of those that it names (`onnx-ghn[torch]`)."""
    found: list[str] = []
    for line in extras[name]:
        if line.startswith("onnx-ghn["):
            found += [each for inner in line[len("onnx-ghn[") : -1].split(",") for each in _expanded(extras, inner)]
        else:
            found.append(line)
    return found


if __name__ == "__main__":
    for name in ENVIRONMENTS:
        (FOLDER / f"{name}.txt").write_text(requirements(name), encoding="utf-8")
