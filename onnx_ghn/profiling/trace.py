"""onnxruntime's trace: time of each node in each run, without the time of nodes inside it.

Builds for GPUs that have a profiler of theirs (CUPTI) also record each kernel on the device, listed behind the node
that launched it (https://github.com/microsoft/onnxruntime/pull/8406).
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["NodeTimes", "RunTrace", "Typed", "read_trace"]

Event = Mapping[str, Any]
Typed = tuple[tuple[str, tuple[int, ...]], ...]  # type and shape of each tensor
_SUFFIX = "_kernel_time"


@dataclasses.dataclass
class NodeTimes:
    """One node over the runs of a trace."""

    name: str
    op_type: str
    provider: str
    index: int  # onnxruntime's number of the node
    runs_us: list[float]  # of each run; 0 if it did not run
    calls: int  # in all runs
    #: Types and shapes of inputs and outputs, with the number of calls that had them: a loop's state may grow.
    shapes: dict[tuple[Typed, Typed], int]
    #: Of its kernels on the device in each run; None where the trace has no kernels at all.
    device_us: list[float] | None = None


@dataclasses.dataclass
class RunTrace:
    """Nodes in the order in which they first run, and the time of whole runs."""

    nodes: list[NodeTimes]
    runs_us: list[float]
    events: list[dict[str, Any]]  # of the runs that are counted


def read_trace(events: Sequence[Event], skip: int = 0, count: int | None = None) -> RunTrace:
    """Nodes' own times from the events that onnxruntime recorded.

    Args:
        events: of one session whose runs did not overlap, as in its JSON file ("ts" and "dur" in microseconds).
        skip: runs to leave out at the beginning.
        count: runs to take then; None: all that follow.
    """
    runs = sorted((e for e in events if e.get("name") == "model_run"), key=lambda e: e["ts"])[skip:]
    runs = runs[:count]
    starts = [run["ts"] for run in runs]
    kernels = sorted(
        (e for e in events if e.get("cat") == "Node" and e["name"].endswith(_SUFFIX)),
        key=lambda e: (e["ts"], -e["dur"]),
    )
    own = _own_times(kernels)
    launched = _launched(events)
    found: dict[tuple[str, str], NodeTimes] = {}
    kept: list[dict[str, Any]] = [dict(run) for run in runs]
    for event, own_us in zip(kernels, own, strict=True):
        at = bisect.bisect_right(starts, event["ts"]) - 1
        if at < 0 or event["ts"] > starts[at] + runs[at]["dur"]:
            continue
        kept += [dict(event), *map(dict, launched.get(id(event), ()))]
        name, args = event["name"].removesuffix(_SUFFIX), event["args"]
        key = (name, str(args.get("node_index", "")))
        node = found.get(key)
        if node is None:
            op_type, provider = args.get("op_name", ""), args.get("provider", "")
            index = int(args.get("node_index") or -1)
            device_us = [0.0] * len(runs) if launched else None
            node = found[key] = NodeTimes(name, op_type, provider, index, [0.0] * len(runs), 0, {}, device_us)
        node.runs_us[at] += own_us
        if node.device_us is not None:
            node.device_us[at] += sum(float(one["dur"]) for one in launched.get(id(event), ()))
        node.calls += 1
        seen = _shapes(args.get("input_type_shape")), _shapes(args.get("output_type_shape"))
        node.shapes[seen] = node.shapes.get(seen, 0) + 1
    return RunTrace(list(found.values()), [float(run["dur"]) for run in runs], kept)


def _launched(events: Sequence[Event]) -> dict[int, list[Event]]:
    """The device's kernels by `id` of the event of the node that launched them.

    They run when the device comes to them, so that their times do not tell whose they are: the last node before them in
    the file does, that has the name (`parent_name`) or else the operator (`op_name`) that they name.
    """
    found: dict[int, list[Event]] = {}
    by_name: dict[str, Event] = {}
    by_type: dict[str, Event] = {}
    for event in events:
        args = event.get("args") or {}
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            by_name[event["name"]] = by_type[args.get("op_name", "")] = event
        elif event.get("cat") == "Kernel":
            named = args.get("parent_name")
            parent = by_name.get(named) if named else by_type.get(args.get("op_name") or "?")
            if parent is not None:
                found.setdefault(id(parent), []).append(event)
    return found


def _own_times(kernels: Sequence[Event]) -> list[float]:
    """Each event's duration without that of events inside it on its thread (the bodies of Loop, If and Scan)."""
    own = [float(event["dur"]) for event in kernels]
    open_: dict[Any, list[int]] = {}
    for number, event in enumerate(kernels):
        stack = open_.setdefault(event.get("tid"), [])
        while stack and kernels[stack[-1]]["ts"] + kernels[stack[-1]]["dur"] < event["ts"] + event["dur"]:
            stack.pop()
        # Times are whole microseconds: what begins where another ends is not inside it.
        while stack and kernels[stack[-1]]["ts"] + kernels[stack[-1]]["dur"] <= event["ts"]:
            stack.pop()
        if stack:
            own[stack[-1]] -= event["dur"]
        stack.append(number)
    return [max(value, 0.0) for value in own]


def _shapes(entries: Iterable[Mapping[str, Sequence[int]]] | None) -> Typed:
    return tuple((kind, tuple(shape)) for entry in entries or () for kind, shape in entry.items())
