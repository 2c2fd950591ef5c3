"""What properties are predicted of: networks trained briefly."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import numpy as np
import torch

from onnx_ghn.deepnets1m import Architecture
from onnx_ghn.deepnets1m.network import Network
from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.json_types import Json
from onnx_ghn.training.properties.settings import Brief

__all__ = ["brief_form", "convergence_steps", "judge_predicted", "train_briefly"]

#: Weights and dropout are drawn from torch's generator, which all threads of a process share.
_ALONE = threading.Lock()


def brief_form(architecture: Architecture, num_classes: int, image_size: int) -> Network:
    """The network of an architecture for images of at most 32 × 32, with torch's random weights."""
    net = Network(architecture, num_classes)
    net.fit_to(image_size)
    return net.to(memory_format=torch.channels_last)


def train_briefly(architecture: Architecture, brief: Brief, data_dir: str, threads: int = 1) -> Json:
    """Train one network and judge it: clean and noisy accuracy (percent), and the training accuracy of each step.

    A network whose loss is no longer finite is judged as one that guesses, and `diverged` names the step. Threads of
    one process train one after the other, so that each network gets the same random numbers everywhere.

    Raises:
        DataError: images that cannot be read.
    """
    with _ALONE:
        return _train_briefly(architecture, brief, data_dir, threads)


def _train_briefly(architecture: Architecture, brief: Brief, data_dir: str, threads: int) -> Json:
    from onnx_ghn.evaluate import accuracy
    from onnx_ghn.training.nets.trainer import NetTrainConfig, NetTrainer
    from onnx_ghn.vision import eval_batches, train_stream

    torch.set_num_threads(threads)
    train, val = _images(brief.dataset, data_dir, brief.n_images)
    began = time.perf_counter(), time.process_time()
    torch.manual_seed(brief.seed)
    net = brief_form(architecture.replace(C=brief.channels), len(train.classes), brief.image_size)
    stream = train_stream(train, brief.batch_size, seed=brief.seed, resize_to=_scaled(train, brief), channels_last=True)
    # The schedule is constant within an epoch: ten steps of it here, for a cosine over the run.
    per_epoch = max(1, brief.steps // 10)
    config = NetTrainConfig(
        epochs=-(-brief.steps // per_epoch), steps_per_epoch=per_epoch, opt=brief.opt, lr=brief.lr, wd=brief.wd,
        amp=brief.amp, seed=brief.seed,
    )  # fmt: skip
    curve: list[float] = []
    record: dict[str, Any] = {"n_params": sum(p.numel() for p in net.parameters())}
    try:
        NetTrainer(net, stream, config).run(lambda _, figures: curve.append(round(figures["top1"], 2)), brief.steps)
    except RuntimeFailure:
        record["diverged"] = len(curve)
    net.eval()
    for prefix, noisy in (("", False), ("noisy_", True)):
        batches = eval_batches(val, 64, noise=noisy, resize_to=_scaled(val, brief), channels_last=True)
        guess = 100 / len(train.classes)
        record[f"{prefix}top1"] = guess if "diverged" in record else round(accuracy(net, batches).top1, 4)
    record |= {"train_top1": curve, "wall_s": time.perf_counter() - began[0], "cpu_s": time.process_time() - began[1]}
    return record


def judge_predicted(architecture: Architecture, brief: Brief, data_dir: str, ckpt: str | None) -> Json:
    """Accuracy (percent) of a network with the weights that a GHN predicts, without training.

    A head without global pooling, for which a GHN predicts one of 32 × 32 images, gets the images at that size.

    Raises:
        DataError, CheckpointError: images or a GHN that cannot be read.
    """
    from onnx_ghn.evaluate import accuracy, architecture_logits
    from onnx_ghn.training.weights import predict_architecture
    from onnx_ghn.vision import eval_batches

    torch.set_num_threads(1)
    _, val = _images(brief.dataset, data_dir, brief.n_images)
    architecture = architecture.replace(C=brief.channels)
    tensors = predict_architecture(_loaded(ckpt), architecture, len(val.classes))
    size = _scaled(val, brief) if architecture.glob_avg else None
    batches = eval_batches(val, 64, resize_to=size, channels_last=True)
    logits = architecture_logits(architecture, tensors, bfloat16=brief.amp)
    return {"top1": round(accuracy(logits, batches).top1, 4)}


@functools.lru_cache(maxsize=1)
def _loaded(ckpt: str | None) -> Any:
    from onnx_ghn.prediction.predicting import resolve_ghn

    return resolve_ghn(ckpt)


def _scaled(images: Any, brief: Brief) -> int | None:
    return None if images.images.shape[1] == brief.image_size else brief.image_size


@functools.lru_cache(maxsize=1)
def _images(dataset: str, data_dir: str, n_images: int) -> tuple[Any, Any]:
    """Training images, and `n_images` of those held out."""
    from onnx_ghn.vision import ImageSet, few_shot, load_dataset

    train, val = (load_dataset(dataset, data_dir, split) for split in ("train", "val"))
    if not isinstance(train, ImageSet) or not isinstance(val, ImageSet):
        raise OptionError(f"{dataset}: ground truth is measured on small images, such as cifar10")
    return train, few_shot(val, -(-n_images // len(val.classes)))


def convergence_steps(train_top1: list[float], threshold: float, steps: int, window: int = 15) -> int:
    """Steps until the mean training accuracy of the last `window` steps reaches `threshold` percent.

    A network that does not get there counts as twice the run, as in the published results (facebookresearch/ppuda,
    data/results_cifar10.json: a share of the run, or 2).
    """
    means: Any = np.convolve(train_top1, np.ones(window) / window, mode="valid") if len(train_top1) >= window else []
    reached = np.flatnonzero(np.asarray(means) >= threshold)
    return int(reached[0]) + window if len(reached) else 2 * steps
