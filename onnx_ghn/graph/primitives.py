"""The one table from operators to their handlers.

A handler sees an operator, its inputs and, along edges, its neighbours; never a position in the node list,
never the name of an architecture. Operators that are not listed are dropped and their neighbours joined; of those
that nobody knows, the float tensors become parameters with a fallback initialisation.
"""

from __future__ import annotations

from collections.abc import Callable

from onnx_ghn.graph.context import BuildContext
from onnx_ghn.graph.flat import Op
from onnx_ghn.graph.handlers import (
    attention,
    convolution,
    linear,
    merge,
    normalisation,
    pooling,
    sequence,
    written_norms,
)

__all__ = ["Handler", "handler_table"]

Handler = Callable[[BuildContext, Op], None]

_MS = "com.microsoft"

#: (handler, operators); "" is the ONNX domain.
_TABLE: tuple[tuple[Handler, tuple[tuple[str, str], ...]], ...] = (
    (convolution.convolution, (("", "Conv"), (_MS, "FusedConv"), (_MS, "NhwcConv"))),
    (convolution.blocked_convolution, (("com.microsoft.nchwc", "Conv"),)),
    (convolution.deformable_convolution, (("", "DeformConv"),)),
    (convolution.causal_convolution, (("", "CausalConvWithState"),)),
    (convolution.transposed_convolution, (("", "ConvTranspose"), (_MS, "ConvTransposeWithDynamicPads"))),
    (linear.gemm, (("", "Gemm"), (_MS, "FusedGemm"), (_MS, "GemmFastGelu"))),
    (linear.matmul, (("", "MatMul"), (_MS, "FusedMatMul"), (_MS, "TransposeMatMul"))),
    (linear.einsum, (("", "Einsum"),)),
    (normalisation.batch_norm, (("", "BatchNormalization"),)),
    (
        normalisation.layer_norm,
        (("", "LayerNormalization"), ("", "GroupNormalization"), ("", "InstanceNormalization"), (_MS, "GroupNorm")),
    ),
    (
        normalisation.rms_norm,
        (("", "RMSNormalization"), ("", "SimplifiedLayerNormalization"), (_MS, "SimplifiedLayerNormalization")),
    ),
    (
        normalisation.skip_norm,
        ((_MS, "SkipLayerNormalization"), (_MS, "SkipSimplifiedLayerNormalization"), (_MS, "SkipGroupNorm")),
    ),
    (pooling.pool, (("", "MaxPool"), ("", "AveragePool"), ("", "LpPool"))),
    (pooling.global_max_pool, (("", "GlobalMaxPool"),)),
    (pooling.mean, (("", "GlobalAveragePool"), ("", "ReduceMean"), ("", "ReduceSum"))),
    (
        merge.add,
        (("", "Add"), ("", "Sum"), (_MS, "BiasGelu"), (_MS, "FastGelu"), (_MS, "BiasSplitGelu"), (_MS, "BiasAdd")),
    ),
    (merge.multiply, (("", "Mul"), ("", "Div"))),
    (written_norms.subtract, (("", "Sub"),)),
    (merge.concat, (("", "Concat"),)),
    (
        attention.fused_attention,
        (("", "Attention"), ("", "LinearAttention"), (_MS, "MultiHeadAttention"), (_MS, "GroupQueryAttention")),
    ),
    (attention.contrib_attention, ((_MS, "Attention"), (_MS, "PackedAttention"))),
    (sequence.recurrent, (("", "LSTM"), ("", "GRU"), ("", "RNN"))),
    (sequence.gather, (("", "Gather"),)),
    (sequence.sliced, (("", "Slice"),)),
    (sequence.table, (("", "GatherElements"), ("", "GatherND"))),
    (sequence.token, (("", "Where"), ("", "ScatterND"))),
    (sequence.embed_layer_norm, ((_MS, "EmbedLayerNormalization"),)),
    (sequence.prelu, (("", "PRelu"),)),
)

#: Outputs that take sizes from their inputs and no values.
_SIZES_ALONE = """
    Shape Size ConstantOfShape EyeLike RandomNormal RandomUniform RandomNormalLike RandomUniformLike Range
""".split()  # noqa: SIM905 (a page of words, not of quotes)

#: Outputs that no gradient reaches, although they depend on the inputs' values: integers and booleans.
_NOT_DIFFERENTIABLE = """
    NonZero ArgMax ArgMin Equal Greater GreaterOrEqual Less LessOrEqual Not And Or Xor IsNaN IsInf OneHot
    Sign Floor Ceil Round Multinomial Bernoulli BitwiseAnd BitwiseOr BitwiseNot BitShift Unique
    NonMaxSuppression StringNormalizer Hardmax BitCast
""".split()  # noqa: SIM905 (a page of words, not of quotes)

#: ONNX operators without trainable tensors: constants among their inputs are settings.
_DROPPED = """
    Abs Acos Acosh Asin Asinh Atan Atanh Cast CastLike Celu CenterCropPad Clip Col2Im Compress Constant
    Cos Cosh CumSum DFT DepthToSpace DequantizeLinear Det Dropout DynamicQuantizeLinear Elu Erf Exp
    Expand Flatten Gelu GlobalLpPool GridSample HardSigmoid HardSwish Identity
    ImageDecoder LRN LeakyRelu Log LogSoftmax LpNormalization Max MaxRoiPool MaxUnpool
    MeanVarianceNormalization MelWeightMatrix Mean Min Mish Mod Neg Optional OptionalGetElement
    OptionalHasElement Pad Pow QuantizeLinear Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMin ReduceProd ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign Rotary
    RotaryEmbedding STFT Scatter ScatterElements Selu SequenceAt SequenceConstruct
    SequenceEmpty SequenceErase SequenceInsert SequenceLength Shrink Sigmoid Sin Sinh Softmax
    Softplus Softsign SpaceToDepth Split SplitToSequence ConcatFromSequence Sqrt Squeeze Swish Tan Tanh
    TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample AffineGrid
    BlackmanWindow HammingWindow HannWindow NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss Crop
    ImageScaler CumProd SwiGLU
""".split()  # noqa: SIM905 (a page of words, not of quotes)

_MS_DROPPED = """
    Gelu QuickGelu FusedElementwise RotaryEmbedding BiasSoftmax BiasDropout Rfft Irfft GridSample
    Inverse Trilu
""".split()  # noqa: SIM905 (a page of words, not of quotes)


def handler_table() -> dict[tuple[str, str], Handler]:
    """(domain, operator) -> handler. Raises ValueError on an operator that is listed twice."""
    table: dict[tuple[str, str], Handler] = {}

    def register(key: tuple[str, str], handler: Handler) -> None:
        if key in table:
            raise ValueError(f"operator {key} has two handlers")
        table[key] = handler

    for handler, keys in _TABLE:
        for key in keys:
            register(key, handler)
    for op_type in _SIZES_ALONE:
        register(("", op_type), _without_sources)
    for op_type in _NOT_DIFFERENTIABLE:
        register(("", op_type), _cut)
    for op_type in _DROPPED:
        register(("", op_type), _drop)
    for op_type in _MS_DROPPED:
        register((_MS, op_type), _drop)
    register(("onnx_ghn", "Join"), _drop)
    return table


def _drop(ctx: BuildContext, op: Op) -> None:
    if op.op_type in ("CastLike", "Expand", "Reshape"):  # the second input lends its type or shape
        ctx.finish(op, ctx.sources(op.input(0)))
        return
    ctx.drop(op)
    if op.op_type in ("Cast", "TopK"):
        _cut_integers(ctx, op)


def _without_sources(ctx: BuildContext, op: Op) -> None:
    ctx.finish(op, frozenset())


def _cut(ctx: BuildContext, op: Op) -> None:
    if ctx.joins_cuts:
        ctx.drop(op)
    else:
        ctx.finish(op, frozenset())


def _cut_integers(ctx: BuildContext, op: Op) -> None:
    """Casts to integers and the indices of TopK carry no gradient."""
    if ctx.joins_cuts:
        return
    if op.op_type == "TopK":
        for tensor in op.outputs[1:]:
            ctx.set_sources(tensor, frozenset())
    elif op.attr("to", 1) not in (1, 10, 11, 16, 17, 18, 19, 20, 23):  # the float types of TensorProto.DataType
        ctx.finish(op, frozenset())
