"""ONNX graph -> ComputationGraph: parameters, primitives, edges, drawing. Never imports torch."""

from onnx_ghn.graph.builder import build_graph
from onnx_ghn.graph.layout import Layout
from onnx_ghn.graph.model import ComputationGraph, Node, Primitive, RunningNorm
from onnx_ghn.graph.parameter import Parameter, Role

__all__ = ["ComputationGraph", "Layout", "Node", "Parameter", "Primitive", "Role", "RunningNorm", "build_graph"]
