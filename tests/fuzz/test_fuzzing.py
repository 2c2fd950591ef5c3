"""The fuzzer finds what it is there for, and finds nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / name) for name in ("cli", "onnx_io", "graph"))]

import fuzzing  # noqa: E402
import io_models as m  # noqa: E402
from cases import Case  # noqa: E402
from mutations import mutated_bytes, mutated_json, mutated_message, mutated_safetensors  # noqa: E402

from onnx_ghn.errors import CheckpointError, DataError, ModelWriteError  # noqa: E402


def run(n_files: int, seed: int) -> None:
    """In a process of its own, as `make fuzz` does, for it forks."""
    found = subprocess.run(
        [sys.executable, str(HERE / "fuzzing.py"), "--files", str(n_files), "--seed", str(seed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout.endswith(f"{n_files} files, 0 failures\n"), found.stdout + found.stderr[-2000:]


def test_a_few_files() -> None:
    run(6, 7)


@pytest.mark.slow
def test_two_thousand_files() -> None:
    run(int(os.environ.get("FUZZ_FILES", "2000")), 0)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise KeyError('x')", "nobody foresaw"), ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("time.sleep(60)", "still runs"), ("(case.inputs / 'm').write_text('new')", "an input was changed"),
        ("case.output.write_text('half'); raise DataError('told')", "half a file"), ("raise DataError('told')", None),
        ("print('Traceback', file=sys.stderr)", "traceback"), ("case.output.write_bytes(b'x')", "outside the command"),
        ("sys.exit(9)", "exit 9"), ("pass", "no output"),
    ],
)  # fmt: skip
def test_what_a_failure_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str | None) -> None:
    """Stand-ins for commands that do what no command may."""
    from onnx_ghn import cli

    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "m").write_text("old")
    case = Case("stand-in", ["predict", "m"], tmp_path / "in", tmp_path / "out" / "o.onnx")

    def work(arguments: list[str]) -> None:
        import click

        from onnx_ghn.cli.running import run_command

        @click.command()
        @click.argument("all", nargs=-1)
        def stand_in(all: tuple[str, ...]) -> None:
            names = {"case": case, "os": os, "sys": sys, "signal": signal, "DataError": DataError}
            exec(f"import time\n{code}", names)

        run_command(stand_in, arguments)

    monkeypatch.setattr("cli_tools.main", work)
    monkeypatch.setattr(fuzzing, "_SECONDS", 2)
    assert callable(cli.main)
    found = fuzzing._tried(case, tmp_path / "told")
    assert found is None if says is None else says in str(found)


def test_mutations_are_seeded_and_change_something() -> None:
    for seed in range(30):
        protos = [m.every_form() for _ in range(2)]
        for proto in protos:
            mutated_message(random.Random(seed), proto)
        first, second = (proto.SerializeToString(deterministic=True) for proto in protos)
        assert first == second
    changed = [mutated_bytes(random.Random(seed), bytes(range(99))) for seed in range(30)]
    assert len(set(changed)) > 25
    value = {"a": [1, {"b": "x"}], "c": 1.5}
    texts = {json.dumps(mutated_json(random.Random(seed), value)) for seed in range(60)}
    assert len(texts) > 30
    assert value == {"a": [1, {"b": "x"}], "c": 1.5}


def test_most_changed_models_are_looked_into() -> None:
    """Their bytes are still a ModelProto, so that more than protobuf's parser is tried."""
    parsed = 0
    for seed in range(100):
        proto = m.mlp(8)
        mutated_message(random.Random(seed), proto)
        parsed += onnx.ModelProto.FromString(proto.SerializeToString()).HasField("graph")
    assert parsed > 90


# -- what is gone on with ------------------------------------------------------------------------------------


def test_states_of_runs_are_read_or_refused(tmp_path: Path) -> None:
    """200 changed training states: CheckpointError, or tensors and a record."""
    import torch

    from onnx_ghn.training.checkpoint_state import load_state, save_state

    path = tmp_path / "state.safetensors"
    save_state(path, {"w": torch.ones(3, 4), "n": torch.arange(5)}, {"step": 3, "settings": {"lr": 0.1, "seed": [1]}})
    sound = path.read_bytes()
    outcomes = []
    for seed in range(200):
        path.write_bytes(mutated_safetensors(random.Random(seed), sound))
        try:
            tensors, record = load_state(path)
        except CheckpointError as error:
            assert "\n" not in str(error)  # noqa: PT017 - some changes give another, valid file
            outcomes.append(False)
        else:
            assert isinstance(record, dict)
            assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
            outcomes.append(True)
    assert 20 < sum(outcomes) < 180


@pytest.mark.parametrize("n", [80, pytest.param(200, marks=pytest.mark.slow)])
def test_results_are_gone_on_with_or_refused(tmp_path: Path, n: int) -> None:
    """Many changed files of results: a refusal that leaves the file as it is, or whole records before the next one."""
    from onnx_ghn.training.results import ResultsFile

    path, settings = tmp_path / "results.jsonl", {"split": "test", "n": 3}
    with ResultsFile(path, settings) as results:
        for number in range(4):
            results.add(f"net-{number}", {"top1": 10.0 * number})
    lines = path.read_bytes().splitlines()
    outcomes = []
    for seed in range(n):
        rng = random.Random(seed)
        changed = list(lines)
        at = rng.randrange(len(lines))
        changed[at] = json.dumps(mutated_json(rng, json.loads(lines[at]))).encode()
        data = b"\n".join(changed) + b"\n"
        data = mutated_bytes(rng, data) if rng.random() < 0.3 else data
        path.write_bytes(data)
        try:
            with ResultsFile(path, settings) as results:
                known = dict(results.records)
                results.add("new", {"top1": 1.0})
        except (DataError, ModelWriteError) as error:
            assert "\n" not in str(error)  # noqa: PT017 - some changes give another, valid file
            assert path.read_bytes() == data
            outcomes.append(False)
        else:
            with ResultsFile(path, settings) as again:
                assert again.records == {**known, "new": {"top1": 1.0}}
            outcomes.append(True)
    assert 0.05 * n < sum(outcomes) < 0.95 * n
