"""Random pairs of networks, one of which inherits from the other: does anything fail, and how long does it take?

    python benchmarks/inherit_pairs.py --deepnets 300 --zoo 100 --json inherit_pairs.json

The networks are sampled architectures of DeepNets-1M, and small modules of timm and torchvision. Each recipient is
written and run once by onnxruntime. Prints one row a set: pairs, failures, and of those that did not fail the share of
the tensors that are inherited, outputs that are not finite, CPU seconds to follow the recipient's channels, to align
both and to choose channels (median and longest), and CPU seconds with reading both models (median).
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx_ir import Model

from onnx_ghn.deepnets1m import sample
from onnx_ghn.deepnets1m.export import network_model
from onnx_ghn.errors import GraphError, OnnxGhnError
from onnx_ghn.graph.builder import read_graph
from onnx_ghn.inheritance.donor import open_donor
from onnx_ghn.inheritance.inheriting import inherit
from onnx_ghn.onnx_io import inject, write_model
from onnx_ghn.onnx_io.read import read_model
from onnx_ghn.passes import open_model
from onnx_ghn.runtime import open_session, run_session
from onnx_ghn.torch_export import module_to_onnx

TIMM = (
    *(
        "test_resnet",
        "test_vit",
        "test_vit2",
        "test_vit3",
        "test_efficientnet",
        "test_efficientnet_gn",
        "test_convnext",
    ),
    *("test_convnext2", "test_mambaout", "test_nfnet", "test_byobnet", "test_efficientnet_ln"),
)
TORCHVISION = (
    *("squeezenet1_0", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18"),
    *("mnasnet0_5", "regnet_y_400mf", "efficientnet_b0", "densenet121", "googlenet"),
)


@dataclasses.dataclass
class Result:
    """One pair."""

    recipient: str
    donor: str
    failure: str = ""
    share: float = 0.0
    n_tensors: int = 0
    finite: bool = True
    seconds: float = 0.0
    aligning_s: float = 0.0


def trained(model: Model | onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """A model whose scales of norms differ, as after training."""
    import onnx_ir as ir

    proto = ir.serde.serialize_model(model) if isinstance(model, Model) else model
    draw = np.random.default_rng(seed)
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.ndim == 1 and array.size > 1:
            noise = draw.uniform(0.9, 1.1, array.shape).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array * noise, tensor.name))
    return proto


def deepnets(count: int) -> dict[str, onnx.ModelProto]:
    """Sampled networks."""
    found: dict[str, onnx.ModelProto] = {}
    number = 0
    while len(found) < count:
        number += 1
        try:
            architecture = sample("train", np.random.default_rng(number))
            if architecture is None:
                continue
            found[f"deepnets {number}"] = trained(network_model(architecture), number)
        except (GraphError, RuntimeError) as error:
            print(f"network {number} is left out: {error}", file=sys.stderr)
    return found


def zoo() -> dict[str, onnx.ModelProto]:
    """Small modules of timm and torchvision, at 64 pixels."""
    import timm
    import torchvision

    found = {}
    for name in (*TIMM, *TORCHVISION):
        try:
            if name in TORCHVISION:
                module = torchvision.models.get_model(name, num_classes=10)
            else:
                module = timm.create_model(name, num_classes=10)
            side = module.default_cfg["input_size"][-1] if hasattr(module, "default_cfg") else 64
            proto = module_to_onnx(module.eval(), (torch.randn(1, 3, side, side),))
        except (GraphError, RuntimeError, ValueError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        found[name] = trained(proto, len(found))
    return found


def pair(recipient: str, donor: str, models: dict[str, onnx.ModelProto], folder: Path) -> Result:
    """Let one model inherit from another, write it and run it."""
    result = Result(recipient, donor)
    try:
        start = time.process_time()
        given = open_donor(models[donor])
        opened = open_model(models[recipient])
        graph, flat = read_graph(opened.model, opened.stored, "onnx")
        aligned = time.process_time()
        found = inherit(opened, flat, graph, [given])
        result.aligning_s = time.process_time() - aligned
        result.seconds = time.process_time() - start
        result.n_tensors = len(graph.parameters)
        result.share = len(found.tensors) / max(1, len(graph.parameters))
        inject(opened.model, {name: tensor.values for name, tensor in found.tensors.items()}, opened.stored)
        path = folder / "recipient.onnx"
        write_model(opened.model, path, force=True)
        session = open_session(path)
        draw = np.random.default_rng(0)
        feed = {
            value.name: draw.standard_normal([dim if isinstance(dim, int) else 2 for dim in value.shape]).astype(
                np.float32
            )
            for value in session.get_inputs()
        }
        outputs = run_session(session, feed, [value.name for value in session.get_outputs()])
        result.finite = all(bool(np.isfinite(output).all()) for output in outputs)
        read_model(path)
    except OnnxGhnError as error:
        result.failure = str(error)
    except Exception as error:  # noqa: BLE001 (what is counted here is exactly what nobody foresaw)
        result.failure = f"{type(error).__name__}: {error}"
    return result


def row(title: str, results: Sequence[Result]) -> str:
    """A row of the table."""
    done = [result for result in results if not result.failure]
    counts = f"| {title} | {len(results)} | {len(results) - len(done)} "
    if not done:
        return counts + "| – " * 5 + "|"
    infinite = sum(not result.finite for result in done)
    aligning = [result.aligning_s for result in done]
    return counts + (
        f"| {statistics.mean(result.share for result in done):.0%} | {infinite} | {statistics.median(aligning):.2f} "
        f"| {max(aligning):.2f} | {statistics.median(result.seconds for result in done):.2f} |"
    )


def main() -> None:
    """Run the pairs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deepnets", type=int, default=300, help="pairs of DeepNets-1M networks")
    parser.add_argument("--networks", type=int, default=60, help="how many of these networks there are")
    parser.add_argument("--zoo", type=int, default=100, help="pairs of modules of timm and torchvision")
    parser.add_argument("--json", type=Path, help="where to write all results")
    options = parser.parse_args()
    draw = np.random.default_rng(0)
    results: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, count, models in (
            ("DeepNets-1M", options.deepnets, deepnets(options.networks) if options.deepnets else {}),
            ("timm and torchvision", options.zoo, zoo() if options.zoo else {}),
        ):
            names = sorted(models)
            gc.freeze()  # models that wait are no part of what is measured, and a search for cycles goes through all
            for _ in range(count):
                a, b = draw.choice(len(names), 2, replace=False)
                result = pair(names[a], names[b], models, Path(folder))
                results.setdefault(title, []).append(result)
                if result.failure or not result.finite:
                    print(f"{result.recipient} from {result.donor}: {result.failure or 'not finite'}", file=sys.stderr)
    print("| networks | pairs | failures | tensors inherited | not finite | aligned in | at most | with reading |")
    print("|---|---|---|---|---|---|---|---|")
    for title, found in results.items():
        print(row(title, found))
    if options.json is not None:
        options.json.write_text(
            json.dumps([dataclasses.asdict(r) for found in results.values() for r in found], indent=1)
        )


if __name__ == "__main__":
    main()
