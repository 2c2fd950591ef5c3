"""DeepNets-1M: the architecture space of PPUDA, its sampler, its graphs and its files."""

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.files import open_deepnets
from onnx_ghn.deepnets1m.generation import generate
from onnx_ghn.deepnets1m.genotypes import DARTS, PDARTS, VIT, Genotype
from onnx_ghn.deepnets1m.official_write import write_official
from onnx_ghn.deepnets1m.predefined_nets import predefined
from onnx_ghn.deepnets1m.records import DeepNetsFile, Record
from onnx_ghn.deepnets1m.sampler import SPLITS, sample, sample_width
from onnx_ghn.deepnets1m.sampling_stream import stream, stream_records
from onnx_ghn.deepnets1m.symbolic import symbolic_graph

__all__ = [
    "DARTS",
    "PDARTS",
    "SPLITS",
    "VIT",
    "Architecture",
    "DeepNetsFile",
    "Genotype",
    "Record",
    "generate",
    "open_deepnets",
    "predefined",
    "sample",
    "sample_width",
    "stream",
    "stream_records",
    "symbolic_graph",
    "write_official",
]
