"""The one loop: what it does with a step, its schedules to the bit, and the form of the states that it goes on from."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from onnx_ghn.errors import CheckpointError, OptionError, RuntimeFailure
from onnx_ghn.ghn import GHNConfig, new_ghn
from onnx_ghn.settings import made
from onnx_ghn.training import schedule
from onnx_ghn.training.checkpoint_state import load_state, save_state
from onnx_ghn.training.detection.settings import DetectorConfig
from onnx_ghn.training.detection.trainer import detector_schedule
from onnx_ghn.training.ghn.architectures import ArchitectureStream
from onnx_ghn.training.ghn.settings import GHNSettings, NetLimits
from onnx_ghn.training.ghn.trainer import GHNTrainer, TrainConfig
from onnx_ghn.training.group import Group
from onnx_ghn.training.logs import write_record
from onnx_ghn.training.loop import TrainingLoop
from onnx_ghn.training.nets.settings import NetSettings
from onnx_ghn.training.nets.trainer import NetTrainConfig, NetTrainer
from onnx_ghn.training.optimizers import Optimizers
from onnx_ghn.training.settings import RunConfig
from onnx_ghn.training.state import Settings, TrainingState


class Images:
    """Noise by step."""

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(step)
        return torch.randn(4, 3, 32, 32, generator=generator), torch.randint(0, 4, (4,), generator=generator)


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Flatten(), nn.Linear(196, 4))


def net_trainer(folder: Path | None, **changes: Any) -> NetTrainer:
    return NetTrainer(small_net(), Images(), NetTrainConfig(epochs=3, steps_per_epoch=2, **changes), folder, "zeros")


def ghn_trainer(folder: Path | None, opt: str) -> GHNTrainer:
    ghn = new_ghn(GHNConfig.preset("ghn3", hid=8, max_shape=(16, 16, 7, 7), num_classes=4), seed=0)
    nets = ArchitectureStream("train", 4, 7, NetLimits(max_cells=4, max_params=10**6))
    return GHNTrainer(ghn, nets, Images(), TrainConfig(steps=4, opt=opt, ema=0.9, warmup=2), folder)


def rewrite(path: Path, change: Any) -> None:
    tensors, record = load_state(path)
    change(record)
    save_state(path, tensors, record)


# -- states ------------------------------------------------------------------------------------------------


def test_the_form_of_a_state_is_the_one_of_the_first_release(tmp_path: Path) -> None:
    ghn_trainer(tmp_path / "ghn", "muon").run(until=1)
    net_trainer(tmp_path / "net").run(until=1)
    prefixes, records = {}, {}
    for name in ("ghn", "net"):
        with safe_open(str(tmp_path / name / "state.safetensors"), "pt") as file:
            assert set(file.metadata()) == {"onnx_ghn.training"}
            records[name] = json.loads(file.metadata()["onnx_ghn.training"])
            prefixes[name] = {key.partition(".")[0] for key in file.keys()}  # noqa: SIM118 - no mapping
            optimizer = {key.rpartition("|")[2] for key in file.keys() if key.startswith("opt.")}  # noqa: SIM118
            assert optimizer == (
                {"momentum_buffer", "step", "exp_avg", "exp_avg_sq"} if name == "ghn" else {"momentum_buffer"}
            )
    assert prefixes == {"ghn": {"ghn", "ema", "opt"}, "net": {"net", "opt"}}
    assert set(records["ghn"]) == {"step", "skipped", "recent", "ghn", "train", "data"}
    assert set(records["net"]) == {"step", "skipped", "recent", "settings", "data"}
    assert set(records["ghn"]["train"]) >= {"steps", "opt", "lr", "wd", "ema", "accumulate", "seed", "patience"}
    assert set(records["net"]["settings"]) >= {"epochs", "steps_per_epoch", "opt", "lr", "wd", "seed", "origin"}


@pytest.mark.parametrize("opt", ["muon", "adam"])
def test_a_ghn_s_state_of_before_goes_on(tmp_path: Path, opt: str) -> None:
    whole = ghn_trainer(None, opt)
    whole.run()
    ghn_trainer(tmp_path, opt).run(until=2)
    rewrite(tmp_path / "state.safetensors", lambda record: record["train"].pop("own_images"))
    later = ghn_trainer(tmp_path, opt)
    assert later.resume()
    later.run()
    for name, tensor in whole.ghn.state_dict().items():
        assert torch.equal(tensor, later.ghn.state_dict()[name]), name
    averages = later.state.averaged()
    assert averages
    assert all(torch.equal(tensor, averages[name]) for name, tensor in whole.state.averaged().items())


def test_a_net_s_state_of_before_goes_on(tmp_path: Path) -> None:
    """It had neither counted skipped steps nor a patience, and kept neither figures nor what images are drawn by."""

    def as_before(record: dict[str, Any]) -> None:
        del record["skipped"], record["recent"], record["data"], record["settings"]["patience"]

    whole = net_trainer(None, opt="adamw")
    figures = whole.run()
    net_trainer(tmp_path, opt="adamw").run(until=4)
    rewrite(tmp_path / "state.safetensors", as_before)
    later = net_trainer(tmp_path, opt="adamw", save_interval=7)
    assert later.resume()
    assert later.run().keys() == figures.keys()
    assert all(torch.equal(t, later.net.state_dict()[n]) for n, t in whole.net.state_dict().items())
    assert (tmp_path / "net.safetensors").exists()
    with pytest.raises(CheckpointError, match=re.escape("(lr 0.5 instead of 0.025, wd 0.5 instead of 0.0003)")):
        net_trainer(tmp_path, opt="adamw", lr=0.5, wd=0.5).resume()


def test_fine_tuning_was_recorded_as_epochs_of_one_step() -> None:
    before = {"epochs": 24, "steps_per_epoch": 1, "lr": 0.1}
    assert Settings({"steps": 24, "lr": 0.1}).differing(before) == []
    assert Settings({"steps": 25, "lr": 0.1}).differing(before) == ["steps 25 instead of 24"]
    assert Settings({"steps": 25, "lr": 0.2}, free=frozenset({"steps"})).differing(before) == ["lr 0.2 instead of 0.1"]


def test_a_run_on_other_images_or_from_another_seed_is_refused(tmp_path: Path) -> None:
    """Counters and weights would go on as if nothing had happened."""

    def trainer(seed: int = 1, **data: object) -> NetTrainer:
        config = NetTrainConfig(epochs=3, steps_per_epoch=2, seed=seed)
        return NetTrainer(small_net(), Images(), config, tmp_path, "zeros", {"images": 8, "cutout_length": 0} | data)

    trainer().run(until=1)
    assert trainer().resume()
    with pytest.raises(CheckpointError, match=re.escape("(cutout_length 16 instead of 0, images 9 instead of 8)")):
        trainer(images=9, cutout_length=16).resume()
    with pytest.raises(CheckpointError, match=re.escape("(seed 2 instead of 1)")):
        trainer(seed=2).resume()
    ghn_trainer(tmp_path / "ghn", "adam").run(until=1)
    rewrite(tmp_path / "ghn" / "state.safetensors", lambda record: record["train"].update(seed=7))
    with pytest.raises(CheckpointError, match=re.escape("(seed 1111 instead of 7)")):
        ghn_trainer(tmp_path / "ghn", "adam").resume()
    rewrite(tmp_path / "ghn" / "state.safetensors", lambda record: record["train"].update(seed=1111))
    rewrite(tmp_path / "ghn" / "state.safetensors", lambda record: record["ghn"].update(seed=7, name="another"))
    assert ghn_trainer(tmp_path / "ghn", "adam").resume()  # what names a GHN is no setting of its training


def test_the_state_of_another_network_is_refused(tmp_path: Path) -> None:
    net_trainer(tmp_path).run(until=1)
    other = NetTrainer(nn.Linear(2, 2), Images(), NetTrainConfig(epochs=3, steps_per_epoch=2), tmp_path, "zeros")
    with pytest.raises(CheckpointError, match="another network"):
        other.resume()


def test_states_record_the_settings_that_they_always_have() -> None:
    """One more must have the default of what runs did without it; one less would let another run go on."""
    shared = {"opt", "lr", "wd", "grad_clip", "amp", "seed", "save_interval", "log_interval", "patience"}
    net = {"epochs", "steps_per_epoch", "scheduler", "label_smoothing", "drop_path_prob", "auxiliary_weight"}
    ghn = {"steps", "meta_batch_size", "net_clip", "scheduler", "lr_steps", "gamma", "warmup", "label_smoothing", "ema"}
    assert Settings.of(NetTrainConfig(steps_per_epoch=1)).values.keys() == shared | net
    assert Settings.of(TrainConfig(steps=1)).values.keys() == shared | ghn | {"accumulate", "own_images", "also_share"}
    assert Settings.of(DetectorConfig()).values.keys() == shared | {"epochs", "batch_size", "lr_step", "gamma"}


def test_settings_that_are_published_for_imagenet() -> None:
    """facebookresearch/ppuda: experiments/sgd/train_net.py and ppuda/config.py."""
    net, small = made(NetSettings, {"dataset": "imagenet"}), made(NetSettings, {})
    names = ("batch_size", "epochs", "lr", "wd", "scheduler", "imsize")
    assert [getattr(net, name) for name in names] == [128, 250, 0.1, 3e-5, "exponential", 224]
    assert [getattr(small, name) for name in names] == [96, 600, 0.025, 3e-4, "cosine", 32]
    ghn, ghn_small = made(GHNSettings, {"dataset": "imagenet"}), made(GHNSettings, {"lr": 0.1})
    assert (ghn.batch_size, ghn.label_smoothing, ghn.opt, ghn.lr) == (256, 0.1, "adam", 1e-3)
    assert (ghn_small.batch_size, ghn_small.label_smoothing, ghn_small.lr) == (64, 0.0, 0.1)


# -- the loop ----------------------------------------------------------------------------------------------


def loop(
    take_step: Any, steps: int, folder: Path | None = None, group: Group | None = None, **config: Any
) -> TrainingLoop:
    net = nn.Linear(1, 1)
    run = RunConfig(**config)
    state = TrainingState(net, Optimizers(net, run), {"settings": Settings.of(run)})
    return TrainingLoop(take_step, schedule.constant(0.5), state, run, steps=steps, folder=folder, group=group)


def test_a_loop_steps_logs_and_saves(tmp_path: Path) -> None:
    heard: list[int] = []
    run = loop(lambda step: {"loss": float(step)}, 7, tmp_path, log_interval=3, save_interval=2)
    assert run.run(lambda step, figures: heard.append(step), until=5)["loss"] == pytest.approx(3)
    again = loop(lambda step: {"loss": float(step)}, 7, tmp_path, log_interval=3, save_interval=2)
    assert again.resume()
    assert again.step == 5
    again.run(lambda step, figures: heard.append(step))
    assert heard == [1, 2, 3, 4, 5, 6, 7]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"], line["lr"]) for line in lines] == [
        (3, 1.0, 0.5),
        (5, 3.0, 0.5),
        (6, 4.0, 0.5),
        (7, 5.0, 0.5),
    ]
    assert again.run()["loss"] == 5.0  # a run that is done says again what it came to


@pytest.mark.parametrize("log_interval", [1, 3, 4])
@pytest.mark.parametrize("cuts", [(1,), (2, 4, 5), (3, 6)])
def test_lines_of_the_log_average_over_steps_before_an_interruption_too(
    tmp_path: Path, cuts: tuple[int, ...], log_interval: int
) -> None:
    """A step's loss is its number squared; an interruption comes right after a state is saved, or later."""

    def begun(name: str) -> TrainingLoop:
        config = {"log_interval": log_interval, "save_interval": 2}
        return loop(lambda step: {"loss": float(step**2)}, 8, tmp_path / name, **config)

    def stop_at(cut: int, step: int) -> None:
        if step == cut:
            raise KeyboardInterrupt

    begun("whole").run()
    for cut in cuts:
        run = begun("cut")
        run.resume()
        with pytest.raises(KeyboardInterrupt):
            run.run(lambda step, figures, cut=cut: stop_at(cut, step))  # type: ignore[misc]
    last = begun("cut")
    last.resume()
    last.run()
    whole, cut_log = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    )
    assert [(line["step"], line["loss"]) for line in cut_log] == [(line["step"], line["loss"]) for line in whole]
    numbers = [*range(log_interval, 9, log_interval)]
    expected = [sum(i**2 for i in range(n - log_interval, n)) / log_interval for n in numbers]
    assert [line["loss"] for line in whole[: len(numbers)]] == pytest.approx(expected, abs=1e-6)


def test_a_step_that_was_skipped_has_no_part_in_the_means(tmp_path: Path) -> None:
    def step(number: int) -> dict[str, float]:
        return {"skipped": 1.0} if number % 2 else {"loss": float(number), "grad_norm": 1.0, "skipped": 0.0}

    run = loop(step, 5, tmp_path, log_interval=2)
    assert run.run()["loss"] == 4.0
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"], line["grad_norm"], line["skipped"]) for line in lines] == [
        (2, 0.0, 1.0, 1.0),
        (4, 2.0, 1.0, 2.0),
        (5, 4.0, 1.0, 2.0),
    ]


def test_what_is_written_of_a_run_is_json(tmp_path: Path) -> None:
    """JSON has no infinity, and other programs than Python refuse one."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    loop(lambda step: {"loss": 1.0, "grad_norm": math.inf}, 1, tmp_path).run()
    write_record(tmp_path / "record.json", {"net_clip": math.inf, "lr": [0.1, math.nan]})
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=refuse)["grad_norm"] is None
    text = (tmp_path / "record.json").read_text()
    assert json.loads(text, parse_constant=refuse) == {"net_clip": None, "lr": [0.1, None]}


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    loop(lambda step: {"loss": 0.0}, 2, tmp_path, Group(1, 2)).run()
    assert list(tmp_path.iterdir()) == []


def test_skipped_steps_are_counted_until_patience_ends() -> None:
    run = loop(lambda step: {"loss": 1.0, "skipped": float(step % 2)}, 10)
    assert run.run()["skipped"] == run.skipped == 5
    with pytest.raises(RuntimeFailure, match="21 of 21 steps"):
        loop(lambda step: {"loss": 1.0, "skipped": 1.0}, 1000).run()
    loop(lambda step: {"loss": 1.0, "skipped": 1.0}, 100, patience=1.0).run()


def test_settings_that_make_no_sense_name_the_argument() -> None:
    wrong: list[dict[str, Any]] = [{"opt": "lion"}, {"lr": math.nan}, {"wd": -1}, {"grad_clip": 0}, {"log_interval": 0}]
    for config in wrong:
        (name,) = config
        for kind in (RunConfig, DetectorConfig):
            with pytest.raises(OptionError, match=f"`{name}`"):
                kind(**config)


# -- schedules ---------------------------------------------------------------------------------------------


def test_schedules_give_the_rates_of_before_to_the_bit() -> None:
    """The expressions of the three trainers that the schedules replace."""
    lr, gamma, warmup, steps, per_epoch, epochs = 0.0123, 0.1, 7, 97, 11, 9

    def ghn_rate(kind: str, step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        if kind == "cosine":
            share = (step - warmup) / max(1, steps - warmup)
            return lr * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        return lr * gamma ** sum(step >= boundary for boundary in (40, 80)) if kind == "step" else lr

    def net_rate(kind: str, step: int) -> float:
        epoch = step // per_epoch
        if kind == "cosine":
            return lr * 0.5 * (1 + math.cos(math.pi * epoch / max(epochs, 1)))
        return lr * 0.97**epoch if kind == "exponential" else lr

    def detector_rate(step: int) -> float:
        rate = lr * gamma ** (step // per_epoch // 3)
        if step < min(1000, per_epoch - 1):
            rate *= 1e-3 + (1 - 1e-3) * step / (per_epoch - 1)
        return rate

    for kind in ("step", "cosine", "constant"):
        config = TrainConfig(steps=steps, scheduler=kind, lr=lr, lr_steps=(40, 80), gamma=gamma, warmup=warmup)
        assert [config.schedule()(step) for step in range(steps + 3)] == [ghn_rate(kind, s) for s in range(steps + 3)]
    for kind in ("cosine", "exponential", "constant"):
        rates = NetTrainConfig(epochs=epochs, steps_per_epoch=per_epoch, scheduler=kind, lr=lr).schedule()
        assert [rates(step) for step in range(steps)] == [net_rate(kind, step) for step in range(steps)]
    rates = detector_schedule(DetectorConfig(lr=lr, gamma=gamma), per_epoch)
    assert [rates(step) for step in range(steps)] == [detector_rate(step) for step in range(steps)]
    assert detector_schedule(DetectorConfig(lr=lr), 1)(0) == lr
