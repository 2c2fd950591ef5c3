"""What `eval` measures: the same by hand through onnxruntime, on as many images as are asked for, of which classes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from colour_data import CLASSES, draw_colours
from PIL import Image
from torch import nn

from onnx_ghn.errors import OptionError
from onnx_ghn.evaluate import accuracy, batch_statistics_mode
from onnx_ghn.ghn import GHN, GHNConfig, new_ghn
from onnx_ghn.torch_export import module_to_onnx
from onnx_ghn.training.evaluation import evaluate_networks
from onnx_ghn.training.evaluation_settings import Images, ModelConfig, Networks
from onnx_ghn.training.file_evaluation import evaluate_model
from onnx_ghn.training.nets.networks import choose, make_module
from onnx_ghn.training.weights import load_tensors, predict_module
from onnx_ghn.vision import eval_batches, load_dataset

MEAN, STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)  # CIFAR-10's, as published


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_colours(tmp_path_factory.mktemp("data") / "colours", {"train": 12, "test": 7})


def write_classifier(path: Path, n_outputs: int) -> Path:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, n_outputs))
    path.write_bytes(module_to_onnx(net.eval(), (torch.zeros(2, 3, 32, 32),)).SerializeToString())
    return path


def hits_by_hand(model: Path, colours: Path) -> dict[bytes, bool]:
    """Whether each test image, by its bytes, is answered right."""
    session = onnxruntime.InferenceSession(model)
    found = {}
    for label, name in enumerate(sorted(CLASSES)):
        for file in (colours / "test" / name).glob("*.png"):
            pixels = np.asarray(Image.open(file), np.float32) / 255
            image = ((pixels - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)[None]
            pair = np.repeat(image.astype(np.float32), 2, axis=0)  # the file is for two images
            (scores,) = session.run(None, {session.get_inputs()[0].name: pair})
            found[np.asarray(Image.open(file)).tobytes()] = int(scores[0].argmax()) == label
    return found


@pytest.mark.parametrize(("n_images", "batch_size"), [(None, 4), (5, 4), (4, 4), (10, 64), (50, 8)])
def test_a_file_is_judged_as_by_hand_on_as_many_images_as_are_asked_for(
    colours: Path, tmp_path: Path, n_images: int | None, batch_size: int
) -> None:
    model = write_classifier(tmp_path / "model.onnx", 3)
    hits = hits_by_hand(model, colours)
    assert len(set(hits.values())) == 2  # some are right, some wrong
    images = Images(dataset=str(colours), batch_size=batch_size, n_images=n_images)
    (row,) = evaluate_model(model, images, ModelConfig(), "cpu", threads=1)
    data = load_dataset(colours, split="test")
    expected_n = min(n_images or 21, 21)
    assert row["n_images"] == expected_n
    seen: list[bool] = []
    for pixels, _ in eval_batches(data, 1):  # the order is eval's; what is right is told by hand
        raw = pixels[0].numpy().transpose(1, 2, 0) * np.float32(STD) + np.float32(MEAN)
        seen.append(hits[np.rint(raw * 255).astype(np.uint8).tobytes()])
    assert row["top1"] == pytest.approx(100 * sum(seen[:expected_n]) / expected_n, abs=1e-4)


def test_more_scores_than_classes_are_told(colours: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = Images(dataset=str(colours), batch_size=4)
    with caplog.at_level(logging.WARNING):
        evaluate_model(write_classifier(tmp_path / "three.onnx", 3), images, ModelConfig(), "cpu")
        assert not caplog.records
        evaluate_model(write_classifier(tmp_path / "five.onnx", 5), images, ModelConfig(), "cpu")
    (record,) = caplog.records
    assert "five.onnx: it gives 5 scores, and colours has 3 classes: its first ones" in record.getMessage()


def tiny_ghn(num_classes: int, **changes: int) -> GHN:
    return new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(16, 16, 7, 7), num_classes=num_classes, **changes), 0)


def test_a_ghn_of_fewer_classes_than_the_data_is_refused(colours: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, networks = Images(dataset=str(colours), batch_size=8), Networks(split="val", count=1)
    with pytest.raises(OptionError, match="`dataset`: colours has 3 classes, and the GHN 2; take data or a GHN of as"):
        evaluate_networks(networks, images, tiny_ghn(2))
    behind = Networks(split="val", count=1, first_class=8)
    with pytest.raises(OptionError, match="colours has 3 classes, and the GHN 2 behind the first 8"):
        evaluate_networks(behind, images, tiny_ghn(10))
    with caplog.at_level(logging.WARNING):
        evaluate_networks(networks, images, tiny_ghn(3))
        evaluate_networks(networks, images, tiny_ghn(10, first_classes=3))
        evaluate_networks(Networks(split="val", count=1, first_class=7), images, tiny_ghn(10, first_classes=7))
        assert not caplog.records
        evaluate_networks(networks, images, tiny_ghn(10))
    (record,) = caplog.records
    assert record.getMessage().startswith("colours has 3 classes, and the GHN 10: its first ones")


def test_a_network_of_torchvision_is_judged_with_the_predicted_classifier(colours: Path) -> None:
    """It had torch's random one, another in each run, where the GHN had learned more classes than the data has."""
    images = Images(dataset=str(colours), batch_size=8)
    networks = Networks(split="torchvision", arch="squeezenet1_1")
    ghn = tiny_ghn(10)
    rows = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        rows.append(evaluate_networks(networks, images, ghn))
    assert rows[0] == rows[1]
    (choice,) = choose("torchvision", arch="squeezenet1_1")
    module = make_module(choice, 3, small_images=True)
    assert load_tensors(module, predict_module(ghn, module, 32)) == []  # everything is predicted
    data = load_dataset(colours, split="test")
    with batch_statistics_mode(module) as logits:
        expected = accuracy(logits, eval_batches(data, 8))
    assert rows[0][0]["top1"] == pytest.approx(expected.top1, abs=1e-4)
