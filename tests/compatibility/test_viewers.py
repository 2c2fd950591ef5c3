"""What `predict` writes, in the tools that people look at it and pass it on with: netron, onnxslim, OpenVINO."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import onnx_ghn

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"
NAMES = ("mobilenet_keras", "convnet_flax", "resnet18_paddle", "vit_small_torch", "gpt_like", "lstm_text")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of filled examples."""
    folder = tmp_path_factory.mktemp("predicted")
    for name in NAMES:
        onnx_ghn.predict(EXAMPLES / f"{name}.onnx", folder / f"{name}.onnx", policy="all", calibrate="none")
    return folder


def inputs_of(path: Path) -> dict[str, np.ndarray]:
    """Drawn inputs: numbers of tokens where the input takes whole numbers, noise elsewhere."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng, given = np.random.default_rng(0), {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else 2 for size in value.shape]
        if "int" in value.type:
            given[value.name] = rng.integers(0, 2, shape).astype("int64" if "64" in value.type else "int32")
        else:
            given[value.name] = rng.standard_normal(shape).astype("float32")
    return given


def outputs_of(path: Path, given: dict[str, np.ndarray]) -> np.ndarray:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, given)[0]


@pytest.mark.parametrize("name", NAMES)
def test_onnx_checks_it_in_full(predicted: Path, name: str) -> None:
    onnx.checker.check_model(predicted / f"{name}.onnx", full_check=True)


@pytest.mark.parametrize("name", NAMES)
def test_onnxslim_keeps_its_outputs(predicted: Path, tmp_path: Path, name: str) -> None:
    onnxslim = pytest.importorskip("onnxslim", reason="onnxslim is not installed")
    source, slim = predicted / f"{name}.onnx", tmp_path / "slim.onnx"
    onnxslim.slim(str(source), str(slim))
    given = inputs_of(source)
    expected = outputs_of(source, given)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(outputs_of(slim, given), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_openvino_computes_its_outputs(predicted: Path, name: str) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    source = predicted / f"{name}.onnx"
    given = inputs_of(source)
    expected = outputs_of(source, given)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(source), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = next(iter(compiled(given).values()))
    np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


# The part of netron that reads a file and lays out what its window shows, without the window.
_NETRON = """
import * as fs from 'fs';
import * as path from 'path';
import { pathToFileURL } from 'url';
const [folder, file] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(path.join(folder, name)).href);
const view = await load('view.js');
const base = await load('base.js');
const host = {
    environment: () => null,
    event: () => {},
    exception: (error) => { throw error; },
    window: { addEventListener: () => {}, removeEventListener: () => {} },
    document: {},
    require: (id) => load(id.replace(/^\\.\\//, '') + '.js'),
    request: async (name, encoding) => fs.readFileSync(path.join(folder, name), encoding || null),
};
const data = fs.readFileSync(file);
const context = {
    identifier: path.basename(file), name: path.basename(file), host,
    stream: new base.BinaryStream(data), entries: new Map(), tags: new Map(), container: null,
    request: async (name, encoding) => fs.readFileSync(path.join(path.dirname(file), name), encoding || null),
    require: (id) => load(id.replace(/^\\.\\//, '') + '.js'),
    error: (error) => { throw error; },
};
const service = new view.ModelFactoryService(host);
const model = await service.open(context);
const graph = (model.modules || model.graphs)[0];
const sizes = {};
for (const node of graph.nodes) {
    for (const argument of node.inputs) {
        for (const value of argument.value || []) {
            if (value && value.initializer) {
                const dims = value.initializer.type.shape.dimensions;
                sizes[value.name] = dims.reduce((product, n) => product * Number(n), 1);
            }
        }
    }
}
console.log(JSON.stringify({
    format: model.format, nodes: graph.nodes.map((node) => node.type.name.split('.').pop()), sizes,
}));
process.exit(0);
"""


@pytest.mark.parametrize("name", NAMES)
def test_netron_shows_its_nodes(predicted: Path, tmp_path: Path, name: str) -> None:
    netron = pytest.importorskip("netron", reason="netron is not installed")
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js on this machine, which runs netron's reader")
    source = predicted / f"{name}.onnx"
    (tmp_path / "read.mjs").write_text(_NETRON)
    command = [node, str(tmp_path / "read.mjs"), str(Path(netron.__file__).parent), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    graph = onnx.load(source).graph
    assert shown["format"].startswith("ONNX")
    nodes = [kind for kind in shown["nodes"] if kind != "Constant"]  # some of which it shows where they are read
    assert Counter(nodes) == Counter(node.op_type for node in graph.node if node.op_type != "Constant")
    read = {given for node in graph.node for given in node.input}
    sizes = {t.name: int(np.prod(t.dims, dtype=np.int64)) for t in graph.initializer if t.name in read}
    assert {name: size for name, size in shown["sizes"].items() if name in sizes} == sizes
