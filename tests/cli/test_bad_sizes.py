"""What is too large for this machine, or declares that it is: told early, in one line."""

from __future__ import annotations

import json
import shutil
import tracemalloc

import cli_models as models
import io_models as m
import numpy as np
import onnx
import pytest
from cli_tools import command, one_line, python, save
from graph_models import Net
from onnx import TensorProto, helper, numpy_helper

# -- size --------------------------------------------------------------------------------------------------


def _declares(shape: tuple[int, ...], where: str = "weight", reads: int = 1) -> onnx.ModelProto:
    """A few hundred bytes that stand for a weight of that shape."""
    net = Net()
    x = net.input("N", shape[0])
    size = net.constant(np.array(shape, np.int64))
    nodes = net.nodes
    if where == "branch":
        net.nodes = []
        w = net.op("ConstantOfShape", size)
        y = net.op("MatMul", x, w)
        branch = helper.make_graph(net.nodes, "b", [], [helper.make_tensor_value_info(y, m.F, None)])
        net.nodes = nodes
        cond = net.input(name="cond", kind=TensorProto.BOOL)
        out = net.op("If", cond, then_branch=branch, else_branch=branch)
    elif where == "table":
        out = net.op("Gather", net.op("ConstantOfShape", size), net.input(2, name="i", kind=TensorProto.INT64))
    elif where == "bias":
        out, w = x, net.op("ConstantOfShape", size)
        for _ in range(reads):
            out = net.op("Relu", net.op("Add", out, w))
    else:
        out = x
        w = net.op("ConstantOfShape", size)
        for _ in range(reads):
            out = net.op("MatMul", out, w)
    return net.model(out)


@pytest.mark.parametrize("command_name", ["predict", "inspect", "strip", "draw"])
@pytest.mark.parametrize("where", ["weight", "branch", "table", "bias", "statistic"])
@pytest.mark.parametrize("shape", [(10**6, 10**6), (10**12,), (2**57,), (10**4, 2 * 10**7)])
def test_huge_shapes(tmp_path, predictor, command_name, where, shape):
    """10^11 elements and more in a few hundred bytes: nothing of the size is ever allocated."""
    if where == "statistic":
        proto = models.conv_net()
        size = numpy_helper.from_array(np.array(shape, np.int64), "huge_size")
        proto.graph.initializer.append(size)
        proto.graph.node.insert(0, helper.make_node("ConstantOfShape", ["huge_size"], ["huge"]))
        norms = [node for node in proto.graph.node if node.op_type == "BatchNormalization"]
        norms[0].input[3] = norms[1].input[4] = "huge"
    else:
        proto = _declares(shape, where, reads=2)
    path = save(tmp_path / "in", proto)
    tracemalloc.start()
    if command_name == "predict":
        outcome = predictor(path, watch=path.parent)
        if where in ("weight", "branch", "bias") and len(shape) > (where != "bias"):
            one_line(outcome, "no runtime takes that" if "no runtime takes that" in outcome.err else "memory")
    elif command_name == "inspect":
        outcome = command("inspect", path, "--json")
        assert outcome.code == 0 or "no runtime takes that" in outcome.err
        assert outcome.code or json.loads(outcome.out)["coverage"]["parameters"] is not None
    else:
        target = tmp_path / ("x.onnx" if command_name == "strip" else "x.dot")
        outcome = command(command_name, path, "-o", target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
    assert outcome.code in (0, 1)
    assert len(outcome.lines) == outcome.code


@pytest.mark.parametrize("option", [("--exclude", "."), ("--fallback", "keep")])
def test_huge_shapes_left_out(tmp_path, predictor, option):
    """What is not to be filled costs nothing, and stays as it was written."""
    path = save(tmp_path / "in", _declares((10**6, 10**6)))
    if option[0] == "--fallback":
        predictor.fails(path, "--exclude", options=option)
        return
    taken = predictor.works(path, *option)
    assert [node.op_type for node in taken.graph.node] == ["Constant", "ConstantOfShape", "MatMul"]


def test_more_than_the_disk_holds(tmp_path, predictor, monkeypatch):
    """Each tensor fits in memory, all of them do not fit on the disk: told before anything is written."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 30, 1 << 30, 1 << 20))
    path = save(tmp_path / "in", m.mlp(1024))
    line = predictor.fails(path, "its disk has 0.0 GiB free")
    assert "free some space" in line


def test_more_nodes_than_memory(tmp_path, predictor, monkeypatch):
    from onnx_ghn.graph import model

    monkeypatch.setattr(model, "memory_bytes", lambda: 1 << 20)
    net = Net()
    x = net.input(1, 4)
    for i in range(300):
        x = net.op("Add", net.linear(x, 4, 4, f"w{i}"), net.weight(4, name=f"b{i}"))
    predictor.fails(save(tmp_path / "in", net.model(x)), "601 nodes", "more memory")


def test_a_huge_model_in_a_process_of_its_own(tmp_path, ghn_folder):
    """Peak memory as the kernel counts it, that of onnxruntime included."""
    net = Net()
    x = net.input(1, 1, 8, 8)
    y = models.batch_norm(net, net.op("Expand", x, net.number([1, 4, 10**5, 10**6], np.int64)), 4, "bn")
    paths = [save(tmp_path / "a", net.model(y)), save(tmp_path / "b", _declares((10**6, 10**6)))]
    code = """
        import sys
        from cli_tools import command
        for path in sys.argv[3:]:
            outcome = command("predict", path, "-o", sys.argv[1], "--ghn", sys.argv[2])
            # Not ru_maxrss: a child process inherits its parent's there.
            status = open("/proc/self/status").read()
            peak_mib = int(status.split("VmHWM:")[1].split()[0]) // 1024
            print(peak_mib, outcome.code, len(outcome.lines), *outcome.lines)
    """
    run = python(code, tmp_path / "out.onnx", ghn_folder, *paths)
    assert run.returncode == 0, run.stderr
    for line, code_ in zip(run.stdout.splitlines(), (0, 1), strict=True):  # the first is only not calibrated
        assert int(line.split()[0]) < 1024, line
        assert line.split()[1:3] == [str(code_)] * 2
        assert "unexpected" not in line
