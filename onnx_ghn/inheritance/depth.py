"""Blocks that the donor has not: they begin as the identity, where a branch beside a skip can begin at zero."""

from __future__ import annotations

import functools
from collections.abc import Collection

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.graph.flat import Op
from onnx_ghn.inheritance.alignment import Alignment
from onnx_ghn.inheritance.pairing import Kept, Made, Pairing
from onnx_ghn.inheritance.structure import Block

__all__ = ["identity_blocks"]


def identity_blocks(
    pairing: Pairing, alignment: Alignment, made: Collection[str]
) -> tuple[dict[str, Made | Kept], list[str], set[str]]:
    """What makes the blocks that nothing of the donor stands for begin as the identity.

    A branch beside a skip begins at zero (where norms are held apart from their weight, by these: no weight of zeros
    has a direction), so that outputs are kept whatever its other tensors hold. These are those of the nearest block
    that is alike, so that it learns from the start. Norms behind the sum begin with scale 1 and shift 0, but for the
    last, which takes those of the norm before the new blocks, whose own become 1 and 0. A convolution without a skip
    begins as the identity where the activation behind it leaves what comes out of the one before it as it is.

    Args:
        made: names of the tensors that have values already: no block of these alone is new.

    Returns:
        tensors by name, doubts, and names of tensors that the outputs do not depend on.
    """
    blocks = pairing.structure.blocks
    found: dict[str, Made | Kept] = {}
    doubts: list[str] = []
    free: set[str] = set()
    inserted = {n for n in alignment.inserted if any(piece.name not in made for piece in blocks[n].pieces)}
    for number in sorted(inserted):
        block = blocks[number]
        names = {piece.name for piece in block.pieces}
        if not block.has_branch_of_its_own:
            identity = _identity_convolution(pairing, block)
            found.update(identity)
            if not identity:
                first = block.pieces[0].name
                doubts.append(f"a new block without a skip that could begin as the identity, first {first}")
            continue
        free |= names
        model = _nearest(blocks, number, inserted, alignment)
        if model is not None:
            for piece, other in zip(block.pieces, model.pieces, strict=True):
                if piece.name not in block.branch and other.name in alignment.pairs:
                    copied = pairing.one(piece.name, alignment.pairs[other.name])
                    if isinstance(copied, Made):
                        found[piece.name] = Made(copied.source, f"a new block: {copied.rule}", "", copied.values)
        for name in (pairing.trace.norms_of.get(each, each) for each in block.branch):
            shape = pairing.trace.parameters[name].shape
            nothing = 0.0 - pairing.trace.offsets.get(name, 0.0)  # what the model adds itself makes it zero
            found[name] = _filled(shape, nothing, "a new block begins as the identity")
        tail = _tail(pairing, block)
        for name in tail:
            value = 1.0 - pairing.trace.offsets.get(name, 0.0) if pairing.trace.uses[name].kind == "norm_scale" else 0.0
            found[name] = _filled(pairing.trace.parameters[name].shape, value, "a new norm begins as the identity")
        is_last = number + 1 not in inserted
        if tail and is_last:
            begin = number
            while begin - 1 in inserted:
                begin -= 1
            before = _tail(pairing, blocks[begin - 1]) if begin else ()
            if len(before) != len(tail) or any(name not in alignment.pairs for name in before):
                doubts.append(f"the norm {tail[0]} of new blocks stands behind none whose scale it could take")
                continue
            for name, old in zip(tail, before, strict=True):
                taken = pairing.one(name, alignment.pairs[old])
                if isinstance(taken, Made):
                    found[name] = taken
                    value = (
                        1.0 - pairing.trace.offsets.get(old, 0.0)
                        if pairing.trace.uses[old].kind == "norm_scale"
                        else 0.0
                    )
                    shape = pairing.trace.parameters[old].shape
                    found[old] = _filled(shape, value, f"its own moved to {name}, behind new blocks")
    return found, doubts, free


def _tail(pairing: Pairing, block: Block) -> tuple[str, ...]:
    """Scale and shift of the norm that ends a block, behind the sum where it has one."""
    uses = pairing.trace.uses
    norms = [p.name for p in block.pieces if uses[p.name].kind in ("norm_scale", "norm_shift")]
    last = max((uses[name].op for name in norms), default=-1)
    if last < max([block.merge, *(uses[p.name].op for p in block.pieces if p.name not in norms)]):
        return ()
    first = min(last, block.merge) if block.merge >= 0 else last - 1  # scale and shift may be of two operators
    names = [name for name in norms if uses[name].op > first or uses[name].op == last]
    if any(name in pairing.trace.batch_norms for name in names):
        return ()
    return tuple(sorted(names, key=lambda name: uses[name].kind))


def _identity_convolution(pairing: Pairing, block: Block) -> dict[str, Made | Kept]:
    """A convolution, its norm and ReLU that begin as the identity; nothing where they cannot."""
    trace = pairing.trace
    kinds = {piece.kind: piece for piece in block.pieces}
    matrix = kinds.get("conv") or kinds.get("linear")
    allowed = {"conv", "linear", "vector", "norm_scale", "norm_shift", "norm_mean", "norm_variance"}
    if matrix is None or len(kinds) != len(block.pieces) or not kinds.keys() <= allowed or block.merge >= 0:
        return {}
    op = trace.flat.ops[trace.uses[matrix.name].op]
    shape = trace.parameters[matrix.name].shape
    after = trace.shape(op.outputs[0])
    if op.op_type != "Conv" or after is None or after != trace.shape(op.input(0)) or shape[0] != shape[1]:
        return {}
    if any(side % 2 == 0 for side in shape[2:]) or not _is_rectified(op) or not _is_rectified_before(op):
        return {}
    epsilon = 0.0
    if "norm_scale" in kinds:
        if kinds["norm_scale"].name not in trace.batch_norms or "norm_variance" not in kinds:
            return {}
        epsilon = trace.batch_norms[kinds["norm_scale"].name][1]
    rule = "a new layer begins as the identity"
    values = {"norm_scale": 1.0, "norm_variance": 1.0 - epsilon}
    found: dict[str, Made | Kept] = {
        piece.name: _filled(trace.parameters[piece.name].shape, values.get(piece.kind, 0.0), rule)
        for piece in block.pieces
        if piece is not matrix
    }
    found[matrix.name] = Made("", f"{rule}: a Dirac kernel", "", functools.partial(_dirac, shape))
    return found


def _is_rectified(op: Op) -> bool:
    """Whether a ReLU follows, behind a batch norm or at once."""
    for _ in range(2):
        users = op.outputs[0].consumers
        if len(users) != 1:
            return False
        op = users[0]
        if op.op_type == "Relu":
            return True
        if op.op_type != "BatchNormalization":
            return False
    return False


def _is_rectified_before(op: Op) -> bool:
    """Whether what is read is the output of a ReLU, which a second one leaves as it is."""
    given = op.input(0)
    while given is not None and given.producer is not None and given.producer.op_type in ("MaxPool", "Identity"):
        given = given.producer.input(0)
    return given is not None and given.producer is not None and given.producer.op_type == "Relu"


def _filled(shape: tuple[int, ...], value: float, rule: str) -> Made:
    return Made("", f"{rule}: {value:g}", "", functools.partial(_full, shape, value))


def _full(shape: tuple[int, ...], value: float) -> Array:
    return np.full(shape, value, np.float32)


def _dirac(shape: tuple[int, ...]) -> Array:
    kernel = np.zeros(shape, np.float32)
    channels = np.arange(shape[0])
    centre = tuple(np.full(shape[0], side // 2) for side in shape[2:])
    kernel[(channels, channels, *centre)] = 1
    return kernel


def _nearest(blocks: tuple[Block, ...], number: int, inserted: set[int], alignment: Alignment) -> Block | None:
    """The nearest block of the same tensors that the donor has, an earlier one first."""
    alike = [
        i
        for i, other in enumerate(blocks)
        if i not in inserted
        and len(other.pieces) == len(blocks[number].pieces)
        and [(p.kind, p.sizes) for p in other.pieces] == [(p.kind, p.sizes) for p in blocks[number].pieces]
    ]
    return blocks[min(alike, key=lambda i: (abs(i - number), i))] if alike else None
