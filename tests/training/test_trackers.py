"""The figures of a run at trackers: the packages themselves where they are installed, offline; stand-ins elsewhere."""

from __future__ import annotations

import importlib.machinery
import json
import logging
import os
import struct
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from onnx_ghn.cli.group import cli
from onnx_ghn.errors import ModelWriteError, RuntimeFailure
from onnx_ghn.installing import NotInstalledError
from onnx_ghn.training.loop import TrainingLoop
from onnx_ghn.training.optimizers import Optimizers
from onnx_ghn.training.schedule import constant
from onnx_ghn.training.settings import RunConfig
from onnx_ghn.training.state import Settings, TrainingState
from onnx_ghn.training.trackers import TRACKERS, Tracking

CONFIG: dict[str, object] = {
    "lr": 0.5,
    "grad_clip": float("inf"),
    "name": "x",
    "freeze": ("a", "b"),
    "folder": Path("d"),
}


def loop(folder: Path, tracker: str | None, *, fails_at: int | None = None) -> TrainingLoop:
    """Three steps whose loss is 10, 11, 12, logged and saved each."""
    config = RunConfig(lr=0.5, log_interval=1, save_interval=1)
    net = nn.Linear(2, 1)
    optimizers = Optimizers(net, config)

    def step(number: int) -> dict[str, float]:
        if number == fails_at:
            raise RuntimeFailure("step 1: the loss is nan")
        return {"loss": 10.0 + number}

    state = TrainingState(net, optimizers, {"settings": Settings({"lr": 0.5})})
    made = TrainingLoop(step, constant(0.5), state, config, steps=3, folder=folder)
    made.track(Tracking(tracker=tracker), CONFIG)  # type: ignore[arg-type]
    return made


class FakeRun:
    """A run of a fake wandb: what was logged and how it ended."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings, self.logged, self.ended = dict(settings), {}, None
        self.fails = False

    def log(self, figures: Mapping[str, float], step: int) -> None:
        if self.fails:
            raise ConnectionError("no answer\nfrom the server")
        self.logged[step] = dict(figures)

    def finish(self, exit_code: int = 0) -> None:
        self.ended = exit_code


@pytest.fixture
def fake_wandb(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """The runs that a fake wandb began."""
    runs: list[FakeRun] = []
    module = types.ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)

    def init(**settings: Any) -> FakeRun:
        runs.append(FakeRun(settings))
        return runs[-1]

    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return runs


def test_a_run_is_shown_step_by_step_and_closed(fake_wandb: list[FakeRun], tmp_path: Path) -> None:
    loop(tmp_path / "run", "wandb").run()
    (run,) = fake_wandb
    assert run.settings["project"] == "onnx-ghn"
    assert run.settings["name"] == "run"
    assert run.settings["config"] == {
        **{"lr": 0.5, "grad_clip": "inf", "name": "x"},
        **{"freeze": ["a", "b"], "folder": "d"},
    }
    assert {step: figures["loss"] for step, figures in run.logged.items()} == {1: 10.0, 2: 11.0, 3: 12.0}
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    for line in lines:  # the same figures
        assert run.logged[line.pop("step")].keys() == line.keys()
    assert run.ended == 0
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_run_that_goes_on_is_the_same_run_there(fake_wandb: list[FakeRun], tmp_path: Path) -> None:
    loop(tmp_path, "wandb").run(until=2)
    later = loop(tmp_path, "wandb")
    assert later.resume()
    later.run()
    first, second = fake_wandb
    assert first.settings["id"] == second.settings["id"]
    assert second.settings["resume"] == "allow"
    assert sorted(second.logged) == [3]
    done = loop(tmp_path, "wandb")
    assert done.resume()
    done.run()  # nothing is left to do
    assert len(fake_wandb) == 2
    loop(tmp_path / "other", "wandb").run()
    assert fake_wandb[-1].settings["id"] != first.settings["id"]


def test_a_run_that_fails_is_told_as_failed(fake_wandb: list[FakeRun], tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="loss is nan"):
        loop(tmp_path, "wandb", fails_at=1).run()
    assert fake_wandb[0].ended == 1
    assert sorted(fake_wandb[0].logged) == [1]


def test_a_tracker_that_fails_on_the_way_is_left_out(
    fake_wandb: list[FakeRun], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = loop(tmp_path, "wandb")

    def report(step: int, figures: dict[str, float]) -> None:
        fake_wandb[0].fails = step == 2

    with caplog.at_level(logging.WARNING, "onnx_ghn"):
        training.run(report)
    assert training.step == 3
    assert sorted(fake_wandb[0].logged) == [1]
    assert fake_wandb[0].ended == 1  # not left running there
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3
    (told,) = caplog.messages
    assert "wandb cannot keep the figures of step 2 (ConnectionError: no answer from the server)" in told
    assert "the run goes on without it" in told


@pytest.mark.parametrize("call", ["log", "finish"])
def test_what_a_tracker_imports_late_and_lacks_ends_no_run(
    fake_wandb: list[FakeRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    """Hours of training are behind it by then."""

    def broken(*arguments: Any, **named: Any) -> None:
        raise ImportError("cannot import name 'util' from 'half_a_package'")

    monkeypatch.setattr(FakeRun, call, broken)
    training = loop(tmp_path, "wandb")
    with caplog.at_level(logging.WARNING, "onnx_ghn"):
        training.run()
    assert training.step == 3
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3
    (told,) = caplog.messages
    assert "ImportError: cannot import name 'util'" in told


def test_a_run_whose_record_cannot_be_kept_is_closed(fake_wandb: list[FakeRun], tmp_path: Path) -> None:
    (tmp_path / "tracker.json").mkdir()
    with pytest.raises(ModelWriteError, match=r"tracker\.json"):
        loop(tmp_path, "wandb").run()
    assert fake_wandb[0].ended == 1


def test_a_run_whose_settings_are_refused_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[str, str]] = []

    class Client:
        def get_experiment_by_name(self, name: str) -> types.SimpleNamespace:
            return types.SimpleNamespace(experiment_id="7")

        def create_run(self, number: str, run_name: str) -> types.SimpleNamespace:
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"{number}-{run_name}"))

        def log_batch(self, key: str, **batch: Any) -> None:
            raise ValueError("a parameter is too long")

        def set_terminated(self, key: str, status: str) -> None:
            ended.append((key, status))

    entities = types.SimpleNamespace(Param=lambda *values: values, Metric=lambda *values: values)
    for name, content in (("mlflow", types.SimpleNamespace(MlflowClient=Client)), ("mlflow.entities", entities)):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__dict__.update(vars(content))
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(RuntimeFailure, match=r"mlflow cannot begin a run .*a parameter is too long"):
        loop(tmp_path / "run", "mlflow").run()
    assert ended == [("7-run", "FAILED")]


@pytest.mark.parametrize(
    "content", ["raise AttributeError('no\\nattribute')", "import no_such_module", "from os import no"]
)
def test_a_broken_package_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / "wandb.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(RuntimeFailure, match=r"^wandb is installed and cannot be imported \(\w+: .*\); .*$"):
        Tracking(tracker="wandb")
    outcome = CliRunner().invoke(
        cli, ["train-net", "--dataset", str(tmp_path / "no such folder"), "--tracker", "wandb"]
    )
    assert isinstance(outcome.exception, RuntimeFailure)
    assert "wandb is installed and cannot be imported" in str(outcome.exception)
    assert "choose another --tracker" in str(outcome.exception)


def test_a_broken_tensorboard_ends_the_runs_that_asked_for_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as one whose import fails
    training = loop(tmp_path, None)
    with caplog.at_level(logging.WARNING, "onnx_ghn"):
        training.run()
    assert training.step == 3
    (told,) = caplog.messages
    assert "tensorboard is installed and cannot be imported" in told
    assert str(tmp_path / "log.jsonl") in told
    assert "\n" not in told
    with pytest.raises(RuntimeFailure, match="tensorboard is installed and cannot be imported"):
        Tracking(tracker="tensorboard")


def test_a_tracker_that_cannot_begin_ends_the_run_before_its_first_step(
    fake_wandb: list[FakeRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**settings: Any) -> FakeRun:
        raise PermissionError("nobody has logged in")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    training = loop(tmp_path, "wandb")
    with pytest.raises(RuntimeFailure, match=r"wandb cannot begin a run \(PermissionError: nobody has logged in\)"):
        training.run()
    assert training.step == 0


def test_an_absent_package_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wandb", "mlflow", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(NotInstalledError, match=rf"{name} is not installed: .*\[{name}\]"):
            Tracking(tracker=name)  # type: ignore[arg-type]


def test_none_shows_nothing(tmp_path: Path) -> None:
    loop(tmp_path, "none").run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "state.safetensors"]


@pytest.mark.parametrize("command", ["train", "train-net", "train-detector", "finetune"])
def test_the_commands_that_train_have_the_option(command: str) -> None:
    found = next(param for param in cli.commands[command].params if param.name == "tracker")
    assert tuple(found.type.choices) == (*TRACKERS, "none")


@pytest.mark.parametrize("tracker", ["tensorboard", None])
def test_tensorboard(tmp_path: Path, tracker: str | None) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    loop(tmp_path, tracker).run(until=2)
    later = loop(tmp_path, tracker)
    later.resume()
    later.run()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 10.0), (2, 11.0), (3, 12.0)]
    (config,) = events.Tensors("config/text_summary")
    assert b"| grad_clip | inf |" in config.tensor_proto.string_val[0]


def run_apart(script: str, folder: Path, **variables: str) -> str:
    """Run a script on `loop` in a process of its own, since trackers keep threads and settings for good."""
    lines = ["import sys", "from pathlib import Path", "from test_trackers import loop", script]
    places = [str(Path(__file__).parent), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "HOME": str(folder), **variables}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


TWO_PARTS = """
loop(Path("run"), {name!r}).run(until=2)
later = loop(Path("run"), {name!r})
assert later.resume()
later.run()
"""


def wandb_records(path: Path) -> Iterator[bytes]:
    """The records of an offline run's file: a log of LevelDB's form behind seven bytes."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        length, kind = struct.unpack_from("<4xHB", data, at)
        if (rest := 32768 - at % 32768) < 7:  # a header does not go over the end of a block
            at += rest
            continue
        whole = (b"" if kind in (1, 2) else whole) + data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield whole


def test_wandb_itself_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    internal = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    run_apart(TWO_PARTS.format(name="wandb"), tmp_path, WANDB_MODE="offline", WANDB_SILENT="true")
    found = []
    for path in sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime_ns):
        ids, names, rows = set(), set(), []
        for data in wandb_records(path):
            record = internal.Record.FromString(data)
            if record.WhichOneof("record_type") == "run":
                ids.add(record.run.run_id)
                names |= {item.key for item in record.run.config.update}
            elif record.WhichOneof("record_type") == "history":
                items = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
                rows.append((items["_step"], items["loss"]))
        found.append((ids, names, rows))
    first, second = found
    assert first[0] == second[0]
    assert len(first[0]) == 1
    assert first[1] >= set(CONFIG)
    assert first[2] == [(1, 10.0), (2, 11.0)]
    assert second[2] == [(3, 12.0)]


def test_mlflow_itself_in_a_local_file(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    script = TWO_PARTS.format(name="mlflow") + (
        "import mlflow\n"
        "client = mlflow.MlflowClient()\n"
        "(run,) = client.search_runs([client.get_experiment_by_name('onnx-ghn').experiment_id])\n"
        "points = client.get_metric_history(run.info.run_id, 'loss')\n"
        "told = run.info.status, run.info.run_name, run.data.params['grad_clip']\n"
        "print(*told, sorted((point.step, point.value) for point in points))\n"
    )
    store = (tmp_path / "kept").as_uri()
    out = run_apart(script, tmp_path, MLFLOW_TRACKING_URI=store, MLFLOW_ALLOW_FILE_STORE="true")
    assert out.splitlines()[-1] == "FINISHED run inf [(1, 10.0), (2, 11.0), (3, 12.0)]"


def test_trackio_itself_in_a_local_folder(tmp_path: Path) -> None:
    pytest.importorskip("trackio", reason="Trackio is not installed")
    script = (
        "import io, contextlib\n"
        "out = io.StringIO()\n"
        "with contextlib.redirect_stdout(out):\n"
        + "".join(f"    {line}\n" for line in TWO_PARTS.format(name="trackio").strip().splitlines())
        + "assert out.getvalue() == '', out.getvalue()\n"  # results alone go there
        "import trackio\n"
        "(run,) = trackio.Api().runs('onnx-ghn')\n"
        "from trackio.sqlite_storage import SQLiteStorage\n"
        "rows = SQLiteStorage.get_logs('onnx-ghn', run.name)\n"
        "print(run.name.startswith('run-'), run.config['lr'], [(row['step'], row['loss']) for row in rows])\n"
    )
    out = run_apart(script, tmp_path, TRACKIO_DIR=str(tmp_path / "kept"))
    assert out.splitlines()[-1] == "True 0.5 [(1, 10.0), (2, 11.0), (3, 12.0)]"


def test_a_tracker_changes_nothing_of_what_is_computed(fake_wandb: list[FakeRun], tmp_path: Path) -> None:
    states = []
    for number, tracker in enumerate(("wandb", "none")):
        torch.manual_seed(0)
        training = loop(tmp_path / str(number), tracker)
        training.run()
        states.append(training.state.model.state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])
