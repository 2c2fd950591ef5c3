"""Names that tests, benchmarks and scripts import exist, those too that only a slow test or one function imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("onnx_ghn", "exporters", "training", "benchmarks", "tests")


def imports(path: Path) -> Iterator[tuple[str, str, int]]:
    """Module, name and line of each `from onnx_ghn… import name`, at any depth of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "onnx_ghn":
            for alias in node.names:
                yield node.module or "", alias.name, node.lineno


def names_of(module: str) -> set[str] | None:
    """What a module has at its top level, or says that it has; None where there is no such module."""
    place = ROOT.joinpath(*module.split("."))
    place = ROOT / "checkpoints" if module == "onnx_ghn.checkpoints" else place
    is_package = place.is_dir()
    path = place / "__init__.py" if is_package else place.with_suffix(".py")
    if not path.is_file():
        return None
    found = {each.stem for each in place.iterdir()} if is_package else set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Import() | ast.ImportFrom():
                found |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
            case ast.Name(ctx=ast.Store()):
                found.add(node.id)
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                found |= {each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)}
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_imported_exists(folder: str) -> None:
    known: dict[str, set[str] | None] = {}
    missing, n = [], 0
    for path in sorted((ROOT / folder).rglob("*.py")):
        for module, name, line in imports(path):
            n += 1
            if module not in known:
                known[module] = names_of(module)
            names = known[module]
            if names is None or (name != "*" and name not in names):
                missing.append(f"{path.relative_to(ROOT)}:{line}: {module} has no {name}")
    assert not missing
    assert n > 3


def test_a_name_that_is_gone_would_be_found() -> None:
    names = names_of("onnx_ghn.exporters.pytorch")
    assert names is not None
    assert "LiveModule" in names
    assert "to_model" not in names
    assert names_of("onnx_ghn.no_such_module") is None
