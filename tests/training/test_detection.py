"""Detectors on predicted and random backbones: the data's layout, COCO's figures, training and resuming."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

pytest.importorskip("pycocotools", reason="pycocotools is not installed: pip install 'onnx-ghn[detect]'")

from onnx_ghn.cli.train_detector import train_detector
from onnx_ghn.errors import CheckpointError, DataError, OnnxGhnError, OptionError
from onnx_ghn.ghn import GHNConfig, new_ghn, save_ghn
from onnx_ghn.training.detection.detectors import Features, make_detector
from onnx_ghn.training.detection.drawn_pedestrians import draw_pedestrians
from onnx_ghn.training.detection.metrics import coco_metrics
from onnx_ghn.training.detection.pedestrians import Pedestrians, find_pedestrians
from onnx_ghn.training.detection.settings import DetectorConfig
from onnx_ghn.training.detection.trainer import DetectorTrainer, detector_schedule
from onnx_ghn.training.nets.networks import choose, make_module

SMALL = ["--init-channels", 8, "--layers", 3, "--imsize", 32, "--min-size", 64, "--max-size", 64, "--regions", 16]
SMALL += ["--anchors", "16,32", "--test-images", 3, "--threads", 1]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pedestrians(tmp_path_factory.mktemp("data") / "drawn", 12, side=64, seed=4)


@pytest.fixture(scope="module")
def ghn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = GHNConfig.preset("ghn3", hid=8, max_shape=(16, 16, 11, 11), num_classes=3, dirac=True)
    return save_ghn(new_ghn(config, seed=0), tmp_path_factory.mktemp("ghn"))


def run(*arguments: object) -> str:
    result = CliRunner().invoke(train_detector, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


# -- data --------------------------------------------------------------------------------------------------


def test_boxes_are_those_of_the_masks(drawn: Path) -> None:
    train, test = find_pedestrians(drawn, 3, seed=0)
    assert (len(train), len(test)) == (9, 3)
    assert not set(train.images) & set(test.images)
    for index in range(len(train)):
        image, target = train.sample(index)
        pixels = np.asarray(Image.open(train.masks[index]))
        assert image.shape == (3, 64, 64)
        assert len(target["boxes"]) == pixels.max()
        for i, box in enumerate(target["boxes"].int().tolist(), start=1):
            rows, columns = np.nonzero(pixels == i)
            assert box == [columns.min(), rows.min(), columns.max(), rows.max()]
            assert int(target["masks"][i - 1].sum()) == (pixels == i).sum()


def test_mirrored_boxes_lie_around_mirrored_pixels(drawn: Path) -> None:
    train, _ = find_pedestrians(drawn, 3, seed=0)
    image, target = train.sample(0)
    flipped, mirrored = train.sample(0, mirror=True)
    assert torch.equal(flipped.flip(2), image)
    for box, other in zip(target["boxes"], mirrored["boxes"], strict=True):
        assert other.tolist() == [64 - box[2], box[1], 64 - box[0], box[3]]
    assert torch.equal(mirrored["masks"].flip(2), target["masks"])


def test_a_drawn_set_is_the_same_for_everyone(drawn: Path, tmp_path: Path) -> None:
    again = draw_pedestrians(tmp_path / "again", 12, side=64, seed=4)
    for part in ("PNGImages", "PedMasks"):
        names = sorted(path.name for path in (drawn / part).iterdir())
        assert len(names) == 12
        assert all((drawn / part / name).read_bytes() == (again / part / name).read_bytes() for name in names)
    with pytest.raises(DataError, match="choose a new folder"):
        draw_pedestrians(again, 1)


def test_damaged_data_is_told(tmp_path: Path) -> None:
    folder = draw_pedestrians(tmp_path / "data", 4, side=32)
    with pytest.raises(DataError, match="4 images, 4 of them for testing"):
        find_pedestrians(folder, 4, seed=0)
    mask = folder / "PedMasks" / "Drawn00002_mask.png"
    Image.new("RGB", (32, 32)).save(mask)
    everything = Pedestrians((folder / "PNGImages" / "Drawn00002.png",), (mask,))
    with pytest.raises(DataError, match="one number a pixel"):
        everything.sample(0)
    Image.new("L", (32, 30)).save(mask)
    with pytest.raises(DataError, match="they must agree"):
        everything.sample(0)
    mask.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"Drawn00002_mask\.png: cannot be decoded"):
        everything.sample(0)
    mask.unlink()
    with pytest.raises(DataError, match=r"has no mask Drawn00002_mask\.png"):
        find_pedestrians(folder, 1, seed=0)
    with pytest.raises(DataError, match="no such folder; Penn-Fudan"):
        find_pedestrians(tmp_path, 1, seed=0)


# -- figures -----------------------------------------------------------------------------------------------


def boxes_of(*boxes: list[float]) -> dict[str, torch.Tensor]:
    masks = torch.zeros(len(boxes), 200, 200, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[int(y0) : int(y1), int(x0) : int(x1)] = 1
    labels = torch.ones(len(boxes), dtype=torch.int64)
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": labels, "masks": masks}


def answer(scores: list[float], *boxes: list[float]) -> dict[str, torch.Tensor]:
    found = boxes_of(*boxes)
    return {**found, "scores": torch.tensor(scores), "masks": found["masks"][:, None].float()}


def test_average_precision_by_hand() -> None:
    truth = [boxes_of([0, 0, 100, 100], [100, 100, 200, 200]), boxes_of([0, 0, 50, 100])]
    right = [answer([0.9, 0.8], [0, 0, 100, 100], [100, 100, 200, 200]), answer([0.7], [0, 0, 50, 100])]
    for kind in ("bbox", "segm"):
        assert coco_metrics(truth, right, kind)["AP"] == pytest.approx(100)
    # Two of three found, one of them with an IoU of 0.8 (right at 0.5 to 0.75 or 0.8), one false alarm between them.
    some = [answer([0.9, 0.8], [0, 0, 100, 100], [0, 100, 90, 190]), answer([0.7], [0, 0, 50, 80])]
    recall = np.linspace(0, 1, 101)

    def precision(hits: list[bool]) -> float:
        tp = np.cumsum(hits)
        curve, reached = tp / np.arange(1, 4), tp / 3
        return float(np.mean([max((curve[reached >= r]), default=0) for r in recall]))

    both, first = precision([True, False, True]), precision([True, False, False])
    figures = coco_metrics(truth, some)
    assert figures["AP50"] == pytest.approx(100 * both)
    assert figures["AP75"] == pytest.approx(100 * both)
    thresholds = np.arange(0.5, 1, 0.05)
    wanted = np.mean([both if threshold < 0.801 else first for threshold in thresholds])
    assert figures["AP"] == pytest.approx(100 * wanted)
    assert "AP_small" not in figures
    assert coco_metrics(truth, [answer([]), answer([])]) == {"AP": 0, "AP50": 0, "AP75": 0}


def test_rates_warm_up_and_fall() -> None:
    config = DetectorConfig(epochs=7, lr=0.1)
    rates = [detector_schedule(config, 5)(step) for step in range(35)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[2] == pytest.approx(0.1 * (0.001 + 0.999 * 2 / 4))
    assert [round(rate, 6) for rate in rates[4:15]] == [0.1] * 11
    assert rates[15] == rates[29] == pytest.approx(0.01)
    assert rates[30] == pytest.approx(0.001)


# -- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_features_are_those_that_the_classifier_pools(name: str) -> None:
    (choice,) = choose("torchvision", arch=name)
    torch.manual_seed(0)
    net = make_module(choice, 10, small_images=False).eval()
    seen: list[torch.Tensor] = []
    last = [layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d)]
    hooks = [layer.register_forward_hook(lambda _m, _i, out: seen.append(out)) for layer in last]
    images = torch.randn(2, 3, 64, 64)
    net(images)
    for hook in hooks:
        hook.remove()
    features = Features(net, choice)
    found = features.eval()(images)
    assert found.shape[1] == features.out_channels == seen[-1].shape[1]
    assert found.shape[2:] == seen[-1].shape[2:]


def test_a_darts_backbone_gives_what_its_classifier_reads() -> None:
    (choice,) = choose("predefined", arch="DARTS")
    choice = dataclasses.replace(choice, net=choice.net.replace(C=8, n_cells=3))  # type: ignore[union-attr]
    net = make_module(choice, 10, small_images=True).eval()
    images, given = torch.randn(2, 3, 64, 64), []
    net.classifier.register_forward_pre_hook(lambda _m, inputs: given.append(inputs[0]))  # type: ignore[union-attr]
    net(images)
    features = Features(net, choice).eval()(images)
    torch.testing.assert_close(features.mean((2, 3)), given[0])


@pytest.mark.parametrize("name", ["ViT", "vit_b_32", "squeezenet1_0"])
def test_networks_without_a_feature_map_are_refused(name: str) -> None:
    (choice,) = choose("predefined", arch=name)
    with pytest.raises(OptionError, match=name):
        Features(make_module(choice, 10, small_images=False), choice)


def test_a_detector_learns_and_resumes(drawn: Path, ghn: Path, tmp_path: Path) -> None:
    arguments = ("-d", drawn, *SMALL, "-b", 3, "-e", 2, "--opt", "adamw", "--lr", 3e-3, "--ckpt", ghn, "-S", tmp_path)
    whole = json.loads(run(*arguments, "--name", "whole", "--json"))
    assert whole["init"].startswith("backbone predicted by")
    assert [row["epoch"] for row in whole["epochs"]] == [0, 1, 2]
    assert json.loads((tmp_path / "whole" / "result.json").read_text()) == whole
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == whole["step"] == 6
    assert lines[-1]["loss"] < lines[0]["loss"]
    run(*arguments, "--name", "parts", "--until", 4)
    output = run(*arguments, "--name", "parts", "--log-interval", 5)
    assert "going on from step 4 of 6" in output
    assert "epoch 2: AP " in output
    files = [load_file(tmp_path / name / "detector.safetensors") for name in ("whole", "parts")]
    assert all(torch.equal(tensor, files[1][name]) for name, tensor in files[0].items())
    with pytest.raises(CheckpointError, match="lr"):
        run(*arguments, "--name", "parts", "--lr", 0.1)
    with pytest.raises(CheckpointError, match="origin"):
        run("-d", drawn, *SMALL, "-b", 3, "-e", 2, "--opt", "adamw", "--lr", 3e-3, "-S", tmp_path, "--name", "parts")


def test_average_precision_rises_on_an_image_that_is_learnt(tmp_path: Path) -> None:
    """One image, until it knows it: the whole chain from masks to COCO's figures."""
    folder = draw_pedestrians(tmp_path / "two", 2, side=64, seed=1)
    one = find_pedestrians(folder, 1, seed=0)[0]
    (choice,) = choose("predefined", arch="DARTS")
    choice = dataclasses.replace(choice, net=choice.net.replace(C=8, n_cells=3))  # type: ignore[union-attr]
    torch.manual_seed(0)
    net = make_module(choice, 3, small_images=True)
    detector = make_detector(Features(net, choice), min_size=64, max_size=64, anchors=(16, 32), regions=16)
    config = DetectorConfig(epochs=5, batch_size=1, opt="adamw", lr=1e-3, lr_step=100)
    trainer = DetectorTrainer(detector, one.subset([0] * 10), one, config)
    assert trainer.run()["loss"] < 2
    assert trainer.judged[0]["AP50"] < 5
    assert max(row["AP50"] for row in trainer.judged) > 15


def test_masks_are_judged_too(drawn: Path, tmp_path: Path) -> None:
    arguments = (
        "-d",
        drawn,
        *SMALL,
        "--test-images",
        1,
        "--detector",
        "mask",
        "-e",
        1,
        "--until",
        1,
        "-S",
        tmp_path,
        "--json",
    )
    found: dict[str, Any] = json.loads(run(*arguments))
    assert "mask_AP" in found["epochs"][0]
    assert found["train"]["mask"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--anchors", "16,x"], "write sides in pixels"),
        (["--min-size", 128], "above --max-size"),
        (["--lr", 0], "--lr"),
        (["--ckpt", "absent"], "absent: no such file"),
        (["--ckpt", "absent", "--pretrained"], "choose one"),
        (["--arch", "ViT"], "position table"),
        (["--test-images", 12], "leave some for training"),
        (["-d", "nothing"], "no such folder"),
    ],
)
def test_bad_options_give_one_line(drawn: Path, tmp_path: Path, arguments: list[object], message: str) -> None:
    with pytest.raises(OnnxGhnError, match=message):
        run("-d", drawn, *SMALL, "-S", tmp_path, *arguments)
