"""Several data sets in one training: which network learns from which, and its classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from onnx_ghn.cli import main
from onnx_ghn.cli.train_ghn import train_ghn
from onnx_ghn.errors import OptionError
from onnx_ghn.ghn import GHN, GHNConfig, load_ghn, new_ghn, save_ghn
from onnx_ghn.ghn.card import card
from onnx_ghn.training.evaluation import evaluate_networks
from onnx_ghn.training.evaluation_settings import Images, Networks
from onnx_ghn.training.ghn.architectures import ArchitectureStream
from onnx_ghn.training.ghn.recipe import ghn_trainer
from onnx_ghn.training.ghn.settings import GHNSettings, NetLimits
from onnx_ghn.training.ghn.tasks import Task, draw_tasks
from onnx_ghn.training.ghn.trainer import GHNTrainer, TrainConfig
from onnx_ghn.training.group import Group

SMALL = NetLimits(max_cells=4, max_params=10**6)
CONFIG = GHNConfig.preset("ghn2", hid=8, max_shape=(16, 16, 7, 7), num_classes=9)


class Noise:
    """Images and classes below `n_classes`, by step."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes, self.asked = n_classes, list[int]()

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append(step)
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(4, 3, 32, 32, generator=generator)
        return images, torch.randint(0, self.n_classes, (4,), generator=generator)


def tasks() -> tuple[Task, Task]:
    first = Task(ArchitectureStream("train", 4, 7, SMALL), Noise(4))
    return first, Task(ArchitectureStream("train", 5, 7, SMALL, first_class=4), Noise(5))


def test_a_share_of_the_networks_learns_from_further_data() -> None:
    first, further = tasks()
    drawn = [draw_tasks(first, [further], 0.25, step, 8) for step in range(25)]
    counted = sum(images is further.images for step in drawn for _, images in step)
    assert 30 <= counted <= 70  # 50 expected of 200, with a standard deviation of 6
    again = draw_tasks(first, [further], 0.25, 3, 8)
    assert [images for _, images in again] == [images for _, images in drawn[3]]
    assert [len(net.graph) for net, _ in again] == [len(net.graph) for net, _ in drawn[3]]
    for share, source in ((0.0, first), (1.0, further)):
        assert all(images is source.images for _, images in draw_tasks(first, [further], share, 0, 8))


def test_networks_of_further_data_answer_for_its_classes_alone() -> None:
    _, further = tasks()
    ((net, _),) = draw_tasks(further, [], 0.5, 0, 1)
    ghn = new_ghn(CONFIG, seed=0).eval()
    (predicted,) = ghn([net.graph])
    tensors = {net.graph.parameters[i].name: tensor.detach() for i, tensor in predicted.items()}
    (plain,) = ArchitectureStream("train", 9, 7, SMALL).meta_batch(0, 1)  # the same network with all rows
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    logits = net.logits(tensors, images)
    torch.manual_seed(0)
    torch.testing.assert_close(logits, plain.logits(tensors, images)[:, 4:], rtol=0, atol=0)
    assert logits.shape == (2, 5)


@pytest.mark.parametrize("own_images", [False, True])
def test_steps_take_images_of_their_network_s_data(own_images: bool) -> None:
    first, further = tasks()
    config = TrainConfig(steps=2, meta_batch_size=4, opt="adamw", own_images=own_images, also_share=0.5)
    trainer = GHNTrainer(new_ghn(CONFIG, seed=0), first.nets, first.images, config, further=[further])
    figures = trainer._train_step(1)
    assert figures["skipped"] == 0
    asked = first.images.asked, further.images.asked
    if own_images:
        assert sorted(asked[0] + asked[1]) == [4, 5, 6, 7]
    else:
        assert asked == ([1], [1])  # of each data set once, for all of its networks


def class_folders(home: Path, classes: str) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in classes:
            folder = home / part / name
            folder.mkdir(parents=True)
            for number in range(8):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return home


def accuracy_of(ghn: GHN, data: Path, first_class: int) -> list[float]:
    networks = Networks(split="test", count=4, first_class=first_class)
    rows = evaluate_networks(networks, Images(dataset=str(data), batch_size=8), ghn)
    return [float(row["top1"]) for row in rows]


def test_the_command_gives_the_ghn_rows_for_all_classes(tmp_path: Path) -> None:
    ten, two = class_folders(tmp_path / "ten", "abcdefghij"), class_folders(tmp_path / "two", "xy")
    start = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(16, 16, 7, 7), num_classes=10), seed=1)
    save_ghn(start, tmp_path / "start")
    options = ["-d", ten, "--also", two, "--ghn", tmp_path / "start", "-S", tmp_path, "--name", "run", "--steps", 2]
    options += ["-b", 4, "-m", 2, "--max-cells", 4, "--max-params", 10**6, "--opt", "adamw"]
    result = CliRunner().invoke(train_ghn, [*map(str, options)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    trained = load_ghn(tmp_path / "run" / "ghn")
    assert (trained.config.num_classes, trained.config.first_classes) == (12, 10)
    assert (trained.config.dataset, trained.config.name) == ("ten, two", "run")
    judged = [accuracy_of(trained, two, first_class=first) for first in (0, 10)]
    assert judged[0] != judged[1]  # other rows, other answers
    with pytest.raises(OptionError, match="`first_class` 12: the GHN has 12 classes"):
        accuracy_of(trained, two, first_class=12)
    before = dict(start.named_parameters())["bias_class.1.bias"]
    after = dict(trained.named_parameters())["bias_class.1.bias"]
    assert after.shape == (12,)
    assert not torch.equal(after[:10], before)
    assert float((after[:10] - before).detach().abs().max()) < 0.01  # two steps away from where it started


def test_the_first_classes_are_those_of_the_first_data_set(tmp_path: Path) -> None:
    """Not those that the GHN to start from had."""
    ten, two = class_folders(tmp_path / "ten", "abcdefghij"), class_folders(tmp_path / "two", "xy")
    start = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(16, 16, 7, 7), num_classes=10), seed=1)
    save_ghn(start, tmp_path / "start")
    settings = GHNSettings(dataset=str(two), also=(str(ten),), ckpt=str(tmp_path / "start"), steps=1)
    config = ghn_trainer(settings, tmp_path / "run", "cpu", Group()).ghn.config
    assert (config.num_classes, config.first_classes) == (12, 2)


@pytest.mark.parametrize(("classes", "rows", "first"), [("abcdefghijkl", 12, 0), ("abc", 10, 3), ("abcdefghij", 10, 0)])
def test_a_ghn_that_goes_on_with_another_data_set_has_a_row_for_each_class(
    tmp_path: Path, classes: str, rows: int, first: int
) -> None:
    """Ten rows for twelve classes would be repeated: the eleventh class could never be told from the first."""
    data = class_folders(tmp_path / "others", classes)
    start = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(16, 16, 7, 7), num_classes=10, dataset="old"), seed=1)
    save_ghn(start, tmp_path / "start")
    settings = GHNSettings(dataset=str(data), ckpt=str(tmp_path / "start"), steps=1, max_cells=4)
    trainer = ghn_trainer(settings, tmp_path / "run", "cpu", Group())
    config = trainer.ghn.config
    assert (config.num_classes, config.first_classes) == (rows, first)
    assert (config.name, config.dataset) == ("run", "others")  # what it is now, and no place on this machine
    assert config.knows_classes(len(classes))
    (net,) = trainer.nets.meta_batch(0, 1)
    (predicted,) = trainer.ghn([net.graph])
    weights = next(
        tensor for tensor in reversed(predicted.values()) if tensor.dim() > 1 and len(tensor) == len(classes)
    )
    flat = weights.detach().reshape(len(classes), -1)
    assert len(torch.unique(flat, dim=0)) == len(classes)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--also-share", 0.3], "--also-share: of the data sets of --also; name one, or leave this out"),
        (["--scheduler", "cosine", "--gamma", 0.5], "--gamma: of --scheduler step; choose it, or leave this out"),
        (["--scheduler", "constant", "--lr-steps", "1"], "--lr-steps: of --scheduler step; choose it, or"),
        (["--layers", 2], "--layers: of --hypernet graphormer; choose it, or leave this out"),
        (["-H", "mlp", "--heads", 2], "--heads: of --hypernet graphormer; choose it, or leave this out"),
        (["--epochs", 2], "--epochs: --steps counts instead of them; choose one of both, or leave this out"),
    ],
)
def test_options_that_would_be_left_out_are_refused(
    tmp_path: Path, options: list[object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = class_folders(tmp_path / "two", "xy")
    with pytest.raises(SystemExit) as stop:
        main(["train", "-d", str(data), "--steps", "1", "-S", str(tmp_path), *map(str, options)])
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {told}")
    assert not (tmp_path / "EXP").exists()


def test_the_card_lists_each_data_set() -> None:
    config = GHNConfig.preset("ghn2", num_classes=12, dataset="ten, two")
    assert "\ndatasets:\n- ten\n- two\n---\n" in card(config, 5)
    assert "datasets:" not in card(GHNConfig.preset("ghn2"), 5)


def test_results_of_one_data_set_go_on_that_began_without_the_setting(tmp_path: Path) -> None:
    two, file = class_folders(tmp_path / "two", "xy"), tmp_path / "results.jsonl"
    ghn = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(16, 16, 7, 7), num_classes=2), seed=1)
    networks, images = Networks(split="test", count=1), Images(dataset=str(two), batch_size=8)
    rows = evaluate_networks(networks, images, ghn, results=file)
    settings = json.loads(file.read_text().splitlines()[0])["settings"]
    assert "first_class" not in settings  # as before there was one
    assert evaluate_networks(networks, images, ghn, results=file) == rows
