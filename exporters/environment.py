"""Print what the environment of one framework's tests installs: all but torch, which pins disagree with.

python tests/exporters/environment.py keras > requirements.txt
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
#: The extras of each environment, and the backends that a user of them has.
ENVIRONMENTS = {
    "keras": (["keras", "tensorflow"], ["tensorflow-cpu>=2.18"]),
    "flax": (["flax", "equinox", "keras"], ["jax>=0.4.38"]),
    "paddle": (["paddle"], []),
    "mindspore": (["mindspore"], ["numpy<2"]),
}


def requirements(environment: str) -> list[str]:
    """Requirement lines."""
    extras, more = ENVIRONMENTS[environment]
    core = [line for line in PROJECT["dependencies"] if not line.startswith("torch")]
    return [*core, *more, "pytest>=8", *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(sys.argv[1])) + "\n")
