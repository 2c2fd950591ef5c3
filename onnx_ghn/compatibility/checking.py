"""The table, and what of it holds for a model."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import os
import tomllib
from collections.abc import Mapping

import onnx_ir as ir

from onnx_ghn.compatibility.conditions import holds
from onnx_ghn.errors import OptionError, did_you_mean, printable
from onnx_ghn.json_types import Json
from onnx_ghn.onnx_io import read_model

__all__ = ["Behaviour", "Finding", "Tool", "behaviours", "find_behaviours", "tools"]

ALL = "all"


@dataclasses.dataclass(frozen=True)
class Tool:
    """A runtime, a trainer or a file tool, in the version in which it was tried."""

    key: str
    name: str
    version: str
    date: str


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """A row of the table: what a tool does where a condition holds."""

    tool: Tool
    effect: str  # refused, wrong (without a word) or told (it works, and one should know how)
    what: str
    when: Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class Finding:
    """A behaviour that a model meets."""

    behaviour: Behaviour
    nodes: tuple[str, ...]  # names, or first outputs where nodes have no name

    @property
    def text(self) -> str:
        """One sentence."""
        tool, first = self.behaviour.tool, printable(self.nodes[0])
        where = f"node {first}" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes, first {first}"
        return f"{tool.name} {tool.version} ({tool.date}) {self.behaviour.what}: {where}"

    def to_dict(self) -> Json:
        """For JSON."""
        tool = dataclasses.asdict(self.behaviour.tool)
        return {"tool": tool, "effect": self.behaviour.effect, "what": self.behaviour.what, "nodes": list(self.nodes)}


@functools.cache
def tools() -> Mapping[str, Tool]:
    """By the name that a user gives."""
    return {key: Tool(key, entry["name"], entry["version"], entry["date"]) for key, entry in _table()["tools"].items()}


@functools.cache
def behaviours() -> tuple[Behaviour, ...]:
    """All rows, one for each tool."""
    return tuple(
        Behaviour(tools()[key], row["effect"], row["what"], row["when"])
        for row in _table()["rows"]
        for key in row["tools"]
    )


def find_behaviours(source: str | os.PathLike[str] | ir.Model, tool: str = ALL) -> list[Finding]:
    """What a tool, or each of them, is known to refuse in a model or to compute otherwise.

    Nothing found does not say that the tool runs the model: it says that the table knows of nothing.

    Raises:
        OptionError: a tool that the table does not have. ModelReadError: a file that cannot be read.
    """
    key = tool.strip().lower()
    if key != ALL and key not in tools():
        known, meant = ", ".join(tools()), did_you_mean(key, tools())
        raise OptionError(f"`tool`: {tool!r} is not in the table; take one of {known}, or {ALL}{meant}")
    model = source if isinstance(source, ir.Model) else read_model(source)
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
    nodes = list(model.graph.all_nodes())
    found = []
    for behaviour in behaviours():
        if key in (ALL, behaviour.tool.key):
            named = tuple(_name(node) for node in nodes if holds(behaviour.when, node, opset))
            if named:
                found.append(Finding(behaviour, named))
    return found


def _name(node: ir.Node) -> str:
    return node.name or (node.outputs[0].name or "" if node.outputs else "") or node.op_type


def _table() -> Json:
    text = importlib.resources.files("onnx_ghn.compatibility").joinpath("behaviours.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
