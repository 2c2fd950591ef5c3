"""Files: what is saved is loaded, what a cut has left is gone on with, what is damaged is told in a line."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import numpy as np
import pytest
from synthetic_machine import lines, network

from onnx_ghn.errors import CheckpointError
from onnx_ghn.properties.machine.calibrated import Calibration
from onnx_ghn.properties.machine.memory import PARTS
from onnx_ghn.properties.machine.places import FITTED
from onnx_ghn.properties.machine.storage import load_calibration, probe_log, save_calibration


def test_a_loaded_calibration_predicts_the_same(calibration: Calibration, tmp_path: Path) -> None:
    save_calibration(calibration, tmp_path)
    loaded = load_calibration(tmp_path)
    assert loaded.identity == calibration.identity
    assert loaded.memory == calibration.memory
    assert loaded.to_dict() == calibration.to_dict()
    nodes = [(kind, sizes) for kind, sizes, _ in network(500).nodes]
    np.testing.assert_array_equal(loaded.costs.nodes_us(nodes, 2**22), calibration.costs.nodes_us(nodes, 2**22))


def test_an_older_one_is_replaced_whole(calibration: Calibration, tmp_path: Path) -> None:
    (tmp_path / FITTED).write_bytes(b"older")
    save_calibration(calibration, tmp_path)
    assert load_calibration(tmp_path / FITTED).n_probes == calibration.n_probes
    assert [path.name for path in tmp_path.iterdir()] == [FITTED]


_NOT_OURS = {
    "no time": '{"failed": "x"}\n',
    "no number of seconds": '{"seconds": NaN, "failed": "x"}\n',
    "half a probe": '{"probe": {"number": 1}, "seconds": 1.0}\n',
    "half a session": '{"memory": {"parts": {}}, "seconds": 1.0}\n',
    "a session without its parts": '{"memory": {"parts": {}, "baseline_bytes": 1, "peak_bytes": 2}, "seconds": 1.0}\n',
}


@pytest.mark.parametrize("cut", ["half a line", "no end of line", "no JSON", "no object", *_NOT_OURS])
def test_lines_that_a_cut_has_left_are_forgotten(cut: str, tmp_path: Path) -> None:
    whole = "".join(json.dumps(line) + "\n" for line in lines(3))
    last = {
        **_NOT_OURS,
        "half a line": '{"pro',
        "no end of line": '{"seconds": 1}',
        "no JSON": "}{\n",
        "no object": "[1]\n",
    }[cut]
    (tmp_path / "probes.jsonl").write_text(whole + last)
    with probe_log(tmp_path) as log:
        assert log.lines == lines(3)
        log.add({"seconds": 2.0})
    assert (tmp_path / "probes.jsonl").read_text() == whole + '{"seconds": 2.0}\n'


def test_anew_forgets(tmp_path: Path) -> None:
    with probe_log(tmp_path) as log:
        log.add({"seconds": 1.0})
    with probe_log(tmp_path, anew=True) as log:
        assert log.lines == []
    assert (tmp_path / "probes.jsonl").read_bytes() == b""


def test_two_calibrations_at_once_are_refused(tmp_path: Path) -> None:
    with probe_log(tmp_path), pytest.raises(CheckpointError, match="another process calibrates"), probe_log(tmp_path):
        pass


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with probe_log(tmp_path) as log, pytest.raises(CheckpointError, match="cannot be written \\(No space left"):
        log.add({"seconds": 1.0})


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="set ONNX_GHN_CACHE"), probe_log(tmp_path / "file" / "folder"):
        pass


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "without record", "other arrays", "not finite"])
def test_damaged_calibrations_are_refused_in_one_line(damage: str, calibration: Calibration, tmp_path: Path) -> None:
    from safetensors.numpy import load, save

    path = save_calibration(calibration, tmp_path)
    data = path.read_bytes()
    tensors = load(data)
    record = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    tensors["any/line"] = tensors["any/line"][:1] if damage == "other arrays" else tensors["any/line"]
    if damage == "not finite":
        tensors["any/line"] = np.full_like(tensors["any/line"], np.nan)
    path.write_bytes(
        {
            "not finite": save(tensors, record),
            "empty": b"",
            "text": b"not a calibration",
            "cut": data[: len(data) // 2],
            "without record": save(tensors),
            "other arrays": save(tensors, record),
        }[damage]
    )
    with pytest.raises(CheckpointError) as told:
        load_calibration(tmp_path)
    assert "\n" not in str(told.value)
    assert "--calibrate-machine" in str(told.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("high", math.nan),
        ("mape", "0.1"),
        ("n_probes", None),
        pytest.param("n_probes", 10**400, id="n_probes-huge"),
        ("run_us", math.inf),
        ("smears", {"Relu": math.nan}),
        ("memory", {"baseline_bytes": 1.0, "factors": {}, "deviation": 0.1}),
        ("memory", {"baseline_bytes": 1.0, "factors": dict.fromkeys(PARTS, math.nan), "deviation": 0.1}),
    ],
)
def test_figures_that_are_no_numbers_are_refused(
    name: str, value: object, calibration: Calibration, tmp_path: Path
) -> None:
    from safetensors.numpy import load, save

    path = save_calibration(calibration, tmp_path)
    data = path.read_bytes()
    record = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["calibration"])
    path.write_bytes(save(load(data), {"calibration": json.dumps(record | {name: value})}))
    with pytest.raises(CheckpointError, match="a damaged calibration") as told:
        load_calibration(path)
    assert "\n" not in str(told.value)


def test_an_absent_calibration_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a readable calibration"):
        load_calibration(tmp_path / "absent")
