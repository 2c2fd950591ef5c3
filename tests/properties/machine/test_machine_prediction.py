"""Predictions of models by the synthetic machine's calibration, in Python and on the command line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import net_models
import onnx
import pytest
from cli_tools import command
from synthetic_machine import RUN_US, cost_us, three

from onnx_ghn.errors import CheckpointError, OnnxGhnError
from onnx_ghn.properties import calibrated_threads, predict_on_machine
from onnx_ghn.properties.machine.calibrated import Calibration
from onnx_ghn.properties.machine.places import calibrations_folder
from onnx_ghn.properties.machine.storage import save_calibration
from onnx_ghn.properties.machine.where_calibrated import is_calibrated


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """Two layers over a batch that is free."""
    path = tmp_path / "layers.onnx"
    path.write_bytes(net_models.two_layers("n"))
    return path


@pytest.fixture
def cache(calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calibration:
    """This machine is calibrated, on one thread."""
    monkeypatch.setenv("ONNX_GHN_CACHE", str(tmp_path / "cache"))
    folder = calibrations_folder() / calibration.identity.folder_name
    folder.mkdir(parents=True)
    save_calibration(calibration, folder)
    return calibration


def test_a_model_costs_what_its_operators_do(layers: Path, calibration: Calibration) -> None:
    report = predict_on_machine(layers, threads=1, batch=256, calibration=calibration)
    expected_us = RUN_US + cost_us("matrix by stored matrix", three(8, 7, 6))
    expected_us += cost_us("Relu", (15.0,)) + cost_us("matrix by stored matrix", three(8, 3.32, 7))
    assert report.latency.value == pytest.approx(expected_us / 1e3, rel=0.15)
    assert report.latency.low is not None
    assert report.latency.high is not None
    assert report.latency.low < report.latency.value < report.latency.high
    assert report.inputs == {"x": (256, 64)}
    assert report.n_nodes == 3
    assert {kind.kind: kind.count for kind in report.kinds} == {"matrix by stored matrix": 2, "Relu": 1}
    assert not report.is_off
    assert report.is_sized


def test_memory_is_that_of_the_values_that_live(layers: Path, calibration: Calibration) -> None:
    """10 MB a session and three bytes for a byte that lives: the first layer's values, over which Relu writes, and
    those of the second."""
    report = predict_on_machine(layers, threads=1, batch=4096, calibration=calibration)
    assert report.peak_memory is not None
    live = 4096 * (128 + 10) * 4
    assert report.peak_memory.value == pytest.approx(100e6 + 10 * 2**20 + 3 * live, rel=1e-3)


def test_sizes_that_a_run_would_tell_are_told(tmp_path: Path, calibration: Calibration) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(net_models.of_values())
    report = predict_on_machine(path, threads=1, calibration=calibration)
    assert not report.is_sized
    assert report.unknown_share > 0  # NonZero is no operator of the synthetic machine


def test_another_machines_calibration_is_told(layers: Path, elsewhere: Calibration) -> None:
    report = predict_on_machine(layers, threads=1, calibration=elsewhere)
    assert report.is_off
    assert report.to_dict()["off"] is True
    assert report.to_dict()["calibrated"]["processor"] == "Another Processor 9000"


def test_another_number_of_threads_is_off_too(layers: Path, calibration: Calibration) -> None:
    assert predict_on_machine(layers, threads=2, calibration=calibration).is_off


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 1e9 operations a second, whose memory costs nothing."""
    from onnx_ghn.profiling.report import Machine
    from onnx_ghn.properties.machine import prediction

    told = Machine("CPUExecutionProvider", 1, 1e9, 1e15, 1e15, 0.0, 0)
    monkeypatch.setattr(prediction, "measure_machine", lambda point, settings: told)


@pytest.fixture
def without_weights(layers: Path, tmp_path: Path) -> Path:
    """The two layers, whose weights have lain in another file, which is lost."""
    path = tmp_path / "without_weights.onnx"
    onnx.save(onnx.load(layers), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    return path


def test_uncalibrated_it_is_the_roofline(layers: Path, peaks: None) -> None:
    report = predict_on_machine(layers, threads=1, batch=4)
    n_flops = 2 * 4 * (64 * 128 + 128 * 10) + 4 * 128
    assert report.latency.value == pytest.approx(n_flops / 1e9 * 1e3)
    assert report.latency.low is report.calibrated is report.peak_memory is None
    assert report.to_dict()["predicted_by"] == "roofline"


def test_weights_that_are_lost_change_nothing(
    layers: Path, without_weights: Path, peaks: None, calibration: Calibration
) -> None:
    for given in (calibration, None):
        whole = predict_on_machine(layers, threads=1, batch=4, calibration=given).to_dict()
        assert predict_on_machine(without_weights, threads=1, batch=4, calibration=given).to_dict() == whole


def test_the_machines_own_calibration_is_found(layers: Path, cache: Calibration) -> None:
    assert calibrated_threads() == [1]
    report = predict_on_machine(layers, threads=1)
    assert report.calibrated == cache.identity


def test_an_absent_calibration_is_told(layers: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such calibration"):
        predict_on_machine(layers, threads=1, calibration=tmp_path / "absent")


def test_the_command_prints_latency_and_memory(layers: Path, cache: Calibration) -> None:
    outcome = command("properties", layers, "--on", "this-machine", "--batch", 256)
    assert outcome.code == 0, outcome.err
    assert "latency, 1 thread" in outcome.out
    assert "peak memory, 1 thread" in outcome.out
    assert "x 256×64" in outcome.out
    assert "calibrated on this machine on" in outcome.out
    assert "accuracy" not in outcome.out


def test_the_command_prints_json(layers: Path, cache: Calibration) -> None:
    outcome = command("properties", layers, "--on", "this-machine", "--threads", "1", "--json")
    (told,) = json.loads(outcome.out)["on_machine"]
    report = predict_on_machine(layers, threads=1)
    assert told == json.loads(json.dumps(report.to_dict()))
    assert told["latency_ms"]["value"] == report.latency.value


def test_the_command_says_that_another_machine_is_another(layers: Path, elsewhere: Calibration, tmp_path: Path) -> None:
    save_calibration(elsewhere, tmp_path)
    outcome = command("properties", layers, "--calibration", tmp_path, "--threads", "1")
    assert outcome.code == 0, outcome.err
    plain = " ".join(outcome.out.split())
    assert "calibrated on Another Processor 9000" in plain
    assert "run `onnx-ghn properties --calibrate-machine --threads 1`" in plain


def test_a_calibrated_machine_adds_its_figures_to_the_others(cache: Calibration) -> None:
    model = Path(__file__).resolve().parents[3] / "data" / "examples" / "resnet18_cifar10.onnx"
    told = json.loads(command("properties", model, "--json").out)
    assert "accuracy" in told["properties"]
    assert told["on_machine"][0]["machine"]["threads"] == 1


def test_what_the_graph_predictor_cannot_take_is_predicted_all_the_same(tmp_path: Path, cache: Calibration) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(net_models.sequence())
    outcome = command("properties", path, "--size", "length=32")
    assert outcome.code == 0, outcome.err
    assert "latency, 1 thread" in outcome.out
    assert "x 1×32×64" in outcome.out
    assert "accuracy and convergence are not predicted" in " ".join(outcome.out.split())
    assert "--calibrate-machine" not in outcome.out
    free = command("properties", path)
    assert free.code == 0, free.err
    assert "accuracy is not predicted: " in free.err
    assert "give it by --shape" in free.err


def test_an_uncalibrated_machine_is_left_out() -> None:
    model = Path(__file__).resolve().parents[3] / "data" / "examples" / "resnet18_cifar10.onnx"
    assert "on_machine" not in json.loads(command("properties", model, "--json").out)


def test_beside_a_calibration_that_cannot_be_read_accuracies_are_told(cache: Calibration) -> None:
    """What the graph alone tells does not depend on it."""
    model = Path(__file__).resolve().parents[3] / "data" / "examples" / "resnet18_cifar10.onnx"
    next(calibrations_folder().rglob("*.safetensors")).write_bytes(b"damaged")
    outcome = command("properties", model)
    assert outcome.code == 0, outcome.err
    assert "noisy accuracy" in outcome.out
    assert "latency and memory on this machine are not predicted: " in outcome.err
    told = json.loads(command("properties", model, "--json").out)
    assert "accuracy" in told["properties"]
    assert "not a readable calibration" in told["no_machine"]
    asked = command("properties", model, "--on", "this-machine", "--threads", "1")
    assert asked.code == 1
    assert "not a readable calibration" in asked.lines[0]


def test_a_given_calibration_tells_the_number_of_threads(layers: Path, calibration: Calibration) -> None:
    identity = dataclasses.replace(calibration.identity, threads=3)
    given = dataclasses.replace(calibration, identity=identity)
    assert predict_on_machine(layers, calibration=given).identity.threads == 3


def test_a_number_of_threads_is_told_once(layers: Path, cache: Calibration) -> None:
    outcome = command("properties", layers, "--on", "this-machine", "--threads", "1,1", "--json")
    assert len(json.loads(outcome.out)["on_machine"]) == 1


def test_a_model_without_operators_says_nothing_of_where_the_time_goes(tmp_path: Path, cache: Calibration) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(net_models.nothing())
    outcome = command("properties", path, "--on", "this-machine", "--threads", "1")
    assert outcome.code == 0, outcome.err
    assert "0 operators" in outcome.out
    assert "where the time goes" not in outcome.out


@pytest.mark.parametrize("fault", ["no home", "unreadable", "a cut calibration"])
def test_nothing_is_calibrated_where_no_folder_can_be(
    fault: str, layers: Path, peaks: None, tmp_path: Path, monkeypatch
) -> None:
    """A user of a container may have no home, or another user's."""
    if fault == "no home":
        for name in ("ONNX_GHN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("os.path.expanduser", lambda path: path)
    else:
        monkeypatch.setenv("ONNX_GHN_CACHE", str(tmp_path))
        (tmp_path / "machines" / "one").mkdir(parents=True)
        (tmp_path / "machines" / "one" / "probes.jsonl").write_text("")
    if fault == "unreadable":

        def refuse(*given: object, **options: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "iterdir", refuse)
        monkeypatch.setattr(Path, "is_dir", refuse)
        monkeypatch.setattr(Path, "is_file", refuse)
        monkeypatch.setattr(Path, "exists", refuse)
        monkeypatch.setattr(Path, "glob", refuse)
    assert not is_calibrated()
    assert calibrated_threads() == []
    assert predict_on_machine(layers, threads=1).calibrated is None


def test_calibrating_says_what_there_is(monkeypatch: pytest.MonkeyPatch, calibration: Calibration) -> None:
    import onnx_ghn.properties.machine.calibration as module

    asked: list[dict[str, object]] = []

    def calibrate(**given: object) -> Calibration:
        asked.append(given)
        return dataclasses.replace(calibration, n_probes=77)

    monkeypatch.setattr(module, "calibrate_machine", calibrate)
    outcome = command("properties", "--calibrate-machine", "--threads", "1,2", "--seconds", "7", "--anew")
    assert outcome.code == 0, outcome.err
    assert [(one["threads"], one["seconds"], one["anew"]) for one in asked] == [(1, 7.0, True), (2, 7.0, True)]
    assert "in 77 networks" in " ".join(outcome.out.split())
    told = json.loads(command("properties", "--calibrate-machine", "--threads", "1", "--json").out)
    assert told["calibrations"][0]["n_probes"] == 77


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "Missing argument 'MODEL'"),
        (("--on", "this-machine"), "Missing argument 'MODEL'"),
        (("MODEL", "--on", "that-machine"), "'that-machine'"),
        (("MODEL", "--anew"), "--anew belongs to --calibrate-machine"),
        (("MODEL", "--seconds", "3"), "--seconds belongs to --calibrate-machine"),
        (("--calibrate-machine", "--seconds", "0"), "must be more than 0"),
        (("--calibrate-machine", "--seconds", "nan"), "must be more than 0"),
        (("--calibrate-machine", "--batch", "2"), "--batch belongs to a MODEL"),
        (("--calibrate-machine", "--on", "this-machine"), "--on belongs to a MODEL"),
        (("--calibrate-machine", "--provider", "abacus"), "onnxruntime knows"),
        (("--calibrate-machine", "--threads", "0"), "not in the range"),
        (("MODEL", "--calibrate-machine", "--calibration", "."), "leave one of them out"),
        (("MODEL", "--calibration", "absent"), "absent: cannot be read"),
        (("MODEL", "--calibration", "."), "not a readable calibration"),
        (("MODEL", "--on", "this-machine", "--predictor", "p"), "leave one out"),
        (("MODEL", "--on", "this-machine", "--threads", "none"), "is no number"),
        (("MODEL", "--on", "this-machine", "--batch", "0"), "--batch"),
        (("MODEL", "--on", "this-machine", "--shape", "x:2x64,4x64"), "take one of each"),
        (("MODEL", "--on", "this-machine", "--shape", "x:2x3x4"), "has 3 dimensions"),
        (("MODEL", "--on", "this-machine", "--shape", "y:2x64"), "no input 'y'"),
        (("MODEL", "--on", "this-machine", "--size", "m=4"), "no input has that symbol"),
        (("MODEL", "--on", "this-machine", "--provider", "abacus"), "onnxruntime knows"),
    ],
)
def test_bad_input(layers: Path, tmp_path: Path, monkeypatch, options: tuple[str, ...], words: str) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    outcome = command("properties", *(layers if option == "MODEL" else option for option in options))
    assert outcome.code in (1, 2)
    assert len(outcome.lines) == 1, outcome.err
    assert words in outcome.lines[0]
    assert outcome.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_calibration_is_told_and_stays(layers: Path, cache: Calibration) -> None:
    file = next(calibrations_folder().rglob("*.safetensors"))
    file.write_bytes(b"damaged")
    with pytest.raises(OnnxGhnError, match="not a readable calibration"):
        predict_on_machine(layers, threads=1)
    assert file.read_bytes() == b"damaged"
