"""What is fuzzed: sound files of each kind, how each is changed, and the commands that read it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cli_models
import io_models
import numpy as np
import onnx
from cli_tools import command
from mutations import mutated_bytes, mutated_json, mutated_message, mutated_safetensors
from PIL import Image

__all__ = ["Case", "Seeds", "make_case"]

EXAMPLES = Path(__file__).resolve().parents[2] / "data" / "examples"


@dataclasses.dataclass(frozen=True)
class Case:
    """A command line; it reads from the folder `inputs` and writes into the folder of `output`.

    What it goes on with (results, training states) lies in the folder `runs` beside `output`.
    """

    what: str
    arguments: list[str]
    inputs: Path
    output: Path


class Seeds:
    """Sound files, made once."""

    def __init__(self, folder: Path) -> None:
        from onnx_ghn.deepnets1m import generate
        from onnx_ghn.ghn import GHNConfig, new_ghn, save_ghn

        config = GHNConfig.preset("ghn2", hid=8, max_shape=(8, 8, 3, 3), num_classes=10)
        self.ghn = save_ghn(new_ghn(config, seed=0), folder / "ghn")
        self.models = [io_models.mlp(), io_models.every_form(), cli_models.conv_net(), cli_models.loops()]
        self.models += [onnx.load(str(EXAMPLES / f"{name}.onnx")) for name in ("audio_m5", "lstm_text", "convnet_flax")]
        self.model = folder / "good.onnx"
        onnx.save(cli_models.conv_net(), str(self.model))
        self.trainable = folder / "trainable.onnx"  # of as many classes as the images
        onnx.save(cli_models.conv_net(classes=2), str(self.trainable))
        self.images = folder / "images"
        rng = np.random.default_rng(0)
        for kind in ("ant", "bee"):
            (self.images / kind).mkdir(parents=True)
            for number in range(12):
                image = Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8))
                image.save(self.images / kind / f"{number}.{('png', 'jpg', 'bmp', 'webp')[number % 4]}")
        self.architectures = folder / "a.hdf5"
        generate("val", 2, 0, self.architectures)
        self.lines = folder / "a.jsonl"
        generate("val", 2, 0, self.lines)
        self.runs = folder / "runs"  # what an evaluation and a training leave, made by `prepare`

    def prepare(self) -> None:
        """Evaluate and train once, in this process."""
        for arguments in (_evaluation(self, self.runs), _training(self, self.runs, self.runs / "trained.onnx")):
            self.runs.mkdir(exist_ok=True)
            outcome = command(*arguments)
            assert outcome.code == 0, outcome.err


def make_case(seeds: Seeds, folder: Path, rng: random.Random) -> Case:
    """A changed file in folder/in and a command for it."""
    inputs, outputs = folder / "in", folder / "out"
    inputs.mkdir(parents=True)
    outputs.mkdir()
    makes = rng.choices(list(_SHARES), list(_SHARES.values()))[0]
    return makes(seeds, inputs, outputs, rng)


def _model(seeds: Seeds, inputs: Path, rng: random.Random) -> Path:
    proto = onnx.ModelProto()
    proto.CopyFrom(rng.choice(seeds.models))
    path = inputs / "m.onnx"
    if rng.random() < 0.2:  # external data, which the changes may misplace
        onnx.save(proto, str(path), save_as_external_data=True, location="m.data", size_threshold=64)
        proto = onnx.load(str(path), load_external_data=False)
        if (inputs / "m.data").exists() and rng.random() < 0.2:
            os.truncate(inputs / "m.data", rng.randrange(1 + os.path.getsize(inputs / "m.data")))
    mutated_message(rng, proto)
    data = proto.SerializeToString()
    path.write_bytes(mutated_bytes(rng, data) if rng.random() < 0.15 and data else data)
    return path


def _of_model(seeds: Seeds, inputs: Path, outputs: Path, rng: random.Random) -> Case:
    path = str(_model(seeds, inputs, rng))
    name, ending, options = rng.choices(
        [
            ("predict", ".onnx", ["--ghn", str(seeds.ghn), "--calibrate", rng.choice(("none", "noise"))]),
            ("strip", ".onnx", []), ("inspect", "", ["--json"]), ("draw", ".svg", []),
            ("report", ".html", ["--no-predict"]), ("properties", "", ["--json"]),
            ("eval", "", ["--json", "-d", str(seeds.images), "--backend", rng.choice(("onnxruntime", "torch"))]),
            ("profile", "", ["--seconds", "0.01", "--no-operators", "--timeout", "30"]),
        ],
        [40, 15, 15, 10, 10, 6, 4, 1],
    )[0]  # fmt: skip
    output = outputs / f"o{ending}"
    given = ["--model", path] if name == "eval" else [path]
    return Case(
        f"{name} of a model", [name, *given, *options, *(["-o", str(output)] if ending else [])], inputs, output
    )


def _of_finetune(seeds: Seeds, inputs: Path, outputs: Path, rng: random.Random) -> Case:
    path, output = _model(seeds, inputs, rng), outputs / "o.onnx"
    if rng.random() < 0.5:  # a model that trains, with a small change
        proto = onnx.load(str(seeds.trainable))
        mutated_message(rng, proto)
        path.write_bytes(proto.SerializeToString())
    arguments = [
        "finetune",
        str(path),
        "-d",
        str(seeds.images),
        "-o",
        str(output),
        "--epochs",
        "1",
        "--batch-size",
        "4",
    ]
    return Case("finetune of a model", [*arguments, "--save-dir", str(outputs / "runs")], inputs, output)


def _evaluation(seeds: Seeds, runs: Path) -> list[str]:
    arguments = ["eval", "-d", str(seeds.images), "--images", "val", "--ghn", str(seeds.ghn), "--split", "val"]
    arguments += ["--file", str(seeds.lines), "--count", "2", "-b", "4", "--n-images", "4", "--image-size", "8"]
    return [*arguments, "--results", str(runs / "results.jsonl")]


def _training(seeds: Seeds, runs: Path, output: Path) -> list[str]:
    arguments = ["finetune", str(seeds.trainable), "-d", str(seeds.images), "-o", str(output), "--epochs", "1"]
    return [*arguments, "--batch-size", "4", "--save-dir", str(runs), "--name", "run"]


def _of_results(seeds: Seeds, inputs: Path, outputs: Path, rng: random.Random) -> Case:
    runs = outputs / "runs"
    runs.mkdir()
    lines = (seeds.runs / "results.jsonl").read_bytes().splitlines()
    at = rng.randrange(len(lines))
    lines[at] = json.dumps(mutated_json(rng, json.loads(lines[at]))).encode()
    data = b"\n".join(lines) + b"\n"
    (runs / "results.jsonl").write_bytes(mutated_bytes(rng, data) if rng.random() < 0.3 else data)
    return Case("eval with results", _evaluation(seeds, runs), inputs, outputs / "o")


def _of_state(seeds: Seeds, inputs: Path, outputs: Path, rng: random.Random) -> Case:
    runs, output = outputs / "runs", outputs / "o.onnx"
    shutil.copytree(seeds.runs / "run", runs / "run")
    state = rng.choice([path for path in sorted((runs / "run").rglob("*")) if path.suffix == ".safetensors"])
    state.write_bytes(mutated_safetensors(rng, state.read_bytes()))
    return Case("finetune with a state", _training(seeds, runs, output), inputs, output)


def _of_generation(seeds: Seeds, inputs: Path, outputs: Path, rng: random.Random) -> Case:
    path = outputs / "runs" / "a.jsonl"
    path.parent.mkdir()
    path.write_bytes(mutated_bytes(rng, seeds.lines.read_bytes()))
    arguments = ["deepnets", "generate", "val", "--count", "3", "--seed", "0", "-o", str(path)]
    return Case("deepnets generate goes on", arguments, inputs, outputs / "o")


def _of_ghn(seeds: Seeds, inputs: Path, outputs: Path, rng: random.Random) -> Case:
    ghn = inputs / "ghn"
    shutil.copytree(seeds.ghn, ghn)
    if rng.random() < 0.5:
        config = json.loads((ghn / "config.json").read_text())
        (ghn / "config.json").write_text(json.dumps(mutated_json(rng, config)))
    else:
        weights = ghn / "model.safetensors"
        weights.write_bytes(mutated_safetensors(rng, weights.read_bytes()))
        if rng.random() < 0.5:
            (ghn / "config.json").unlink()
    output = outputs / "o.onnx"
    return Case("predict by a GHN", ["predict", str(seeds.model), "--ghn", str(ghn), "-o", str(output)], inputs, output)


def _of_published(seeds: Seeds, inputs: Path, outputs: Path, rng: random.Random) -> Case:
    import torch
    from safetensors.torch import load_file

    tensors = load_file(seeds.ghn / "model.safetensors")
    config = json.loads((seeds.ghn / "config.json").read_text())
    name = rng.choice(list(tensors))
    change: Callable[[torch.Tensor], object] = rng.choice(
        [lambda t: t, lambda t: t.half(), lambda t: t[:0], lambda t: t.to("meta"), lambda t: t.to_sparse(),
         lambda t: t.sum(), lambda t: t.tolist(), lambda t: None, lambda t: t.flatten(), lambda t: t.bool()],
    )  # fmt: skip
    out = io.BytesIO()
    torch.save({"state_dict": {**tensors, name: change(tensors[name])}, "config": mutated_json(rng, config)}, out)
    path, output = inputs / "ghn.pt", outputs / "o.onnx"
    path.write_bytes(mutated_bytes(rng, out.getvalue()) if rng.random() < 0.4 else out.getvalue())
    return Case(
        "predict by a .pt", ["predict", str(seeds.model), "--ghn", str(path), "-o", str(output)], inputs, output
    )


def _of_images(seeds: Seeds, inputs: Path, outputs: Path, rng: random.Random) -> Case:
    kind = rng.choice(("PNG", "JPEG", "BMP", "WEBP"))
    packed, output = io.BytesIO(), outputs / "o.onnx"
    Image.new("RGB", (16, 16), (9, 99, 200)).save(packed, format=kind)
    data = mutated_bytes(rng, packed.getvalue()) if rng.random() < 0.7 else packed.getvalue()
    if rng.random() < 0.5:
        source = inputs / "images"
        source.mkdir()
        (source / "a.png").write_bytes(data)
    else:
        source = inputs / "images.zip"
        with zipfile.ZipFile(source, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            archive.writestr("a.png", data)
        source.write_bytes(mutated_bytes(rng, source.read_bytes()))
    arguments = ["predict", str(seeds.model), "--ghn", str(seeds.ghn), "--calibrate", str(source), "-o", str(output)]
    return Case("calibration on images", arguments, inputs, output)


def _of_architectures(seeds: Seeds, inputs: Path, outputs: Path, rng: random.Random) -> Case:
    if rng.random() < 0.4:
        path = inputs / "a.jsonl"
        lines = seeds.lines.read_bytes().splitlines()
        at = rng.randrange(len(lines))
        lines[at] = json.dumps(mutated_json(rng, json.loads(lines[at]))).encode()
        path.write_bytes(b"\n".join(lines) + b"\n")
    else:
        path, meta = inputs / "a.hdf5", inputs / "a_meta.json"
        shutil.copy(seeds.architectures, path)
        shutil.copy(seeds.architectures.with_name("a_meta.json"), meta)
        if rng.random() < 0.7:
            meta.write_text(json.dumps(mutated_json(rng, json.loads(meta.read_text()))))
        else:
            path.write_bytes(mutated_bytes(rng, path.read_bytes()))
    output = outputs / "o.onnx"
    if rng.random() < 0.3:
        return Case("deepnets info", ["deepnets", "info", str(path)], inputs, output)
    return Case(
        "deepnets export",
        ["deepnets", "export", str(path), "--index", "1", "--C", "4", "-o", str(output)],
        inputs,
        output,
    )


_SHARES: dict[Callable[[Seeds, Path, Path, random.Random], Case], int] = {
    _of_model: 60, _of_finetune: 3, _of_ghn: 10, _of_published: 7, _of_images: 10, _of_architectures: 10,
    _of_results: 3, _of_state: 3, _of_generation: 2,
}  # fmt: skip
