"""Small classifiers as ONNX files in the ways that exporters write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from onnx_ghn.torch_export import module_to_onnx

SIDE = 16


class Net(nn.Module):
    """Convolutions, batch norms, a dropout and a linear layer."""

    def __init__(self, dropout: float = 0.0, n_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 6, 3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(6, momentum=0.3)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(6, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.relu(self.norm2(self.conv2(x)))
        return self.head(self.dropout(x.mean((2, 3))))


def torch_net(seed: int = 0, n_classes: int = 3) -> Net:
    """With weights and statistics that are all different."""
    torch.manual_seed(seed)
    net = Net(n_classes=n_classes)
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if tensor.dtype == torch.float32 and tensor.dim() == 1:
                tensor.copy_(torch.rand_like(tensor) + 0.5 if "bias" not in name else 0.1 * torch.randn_like(tensor))
    return net.eval()


def torch_file(net: nn.Module, path: Path) -> Path:
    """As torch's first exporter writes it, the batch free."""
    example = (torch.zeros(2, 3, SIDE, SIDE),)
    names = {"input_names": ["image"], "output_names": ["logits"], "dynamic_axes": {"image": {0: "n"}}}
    onnx.save(module_to_onnx(net, example, **names), path)  # type: ignore[arg-type]
    return path


def keras_like_file(net: Net, path: Path, *, softmax: bool = True) -> Path:
    """The same network as tf2onnx writes Keras's: N × H × W × 3, Transpose around it, MatMul and Add, a Softmax."""
    state = {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()}
    weights = {
        "model/conv/kernel": state["conv.weight"],
        "model/conv2/kernel": state["conv2.weight"],
        "model/conv2/bias": state["conv2.bias"],
        "model/dense/kernel": np.ascontiguousarray(state["head.weight"].T),
        "model/dense/bias": state["head.bias"],
    }
    for layer, name in (("norm", "bn"), ("norm2", "bn2")):
        keys = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        weights |= {f"model/{name}/{ours}": state[f"{layer}.{theirs}"] for ours, theirs in keys.items()}

    def norm(x: str, name: str, momentum: float) -> onnx.NodeProto:
        inputs = [x, *(f"model/{name}/{key}" for key in ("gamma", "beta", "moving_mean", "moving_variance"))]
        return helper.make_node("BatchNormalization", inputs, [f"{name}_out"], name, epsilon=1e-5, momentum=momentum)

    same = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    conv2 = ["r1", "model/conv2/kernel", "model/conv2/bias"]
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], "t", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "model/conv/kernel"], ["c1"], "conv", **same),
        norm("c1", "bn", 0.9),
        helper.make_node("Relu", ["bn_out"], ["r1"], "relu"),
        helper.make_node("Conv", conv2, ["c2"], "conv2", strides=[2, 2], **same),
        norm("c2", "bn2", 0.7),
        helper.make_node("Relu", ["bn2_out"], ["r2"], "relu2"),
        helper.make_node("ReduceMean", ["r2"], ["mean"], "pool", axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "model/dense/kernel"], ["product"], "matmul"),
        helper.make_node("Add", ["product", "model/dense/bias"], ["logits"], "add"),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["dense"], "softmax", axis=-1))
    n_classes = len(state["head.bias"])
    graph = helper.make_graph(
        nodes,
        "keras",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("dense" if softmax else "logits", TensorProto.FLOAT, ["n", n_classes])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    helper.set_model_props(model, {"made_by": "a test"})
    onnx.save(model, path)
    return path


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    """Initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def without_values(path: Path) -> bytes:
    """All of a file but the content of its initializers."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    return model.SerializeToString(deterministic=True)
