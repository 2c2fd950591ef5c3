"""The layers of a model as alignment sees them: what each tensor is, in which block, how deep, on which map."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

from onnx_ghn.graph.flat import Op, Tensor
from onnx_ghn.inheritance.labels import Ints
from onnx_ghn.inheritance.tracing import Trace, Use

__all__ = ["MATRICES", "Block", "Piece", "Structure", "structure_of"]

MATRICES = frozenset(
    {"conv", "linear", "depthwise", "grouped", "transposed", "table", "recurrent_in", "recurrent_state"}
)
_PRODUCTS = frozenset({"MatMul", "Gemm", "Einsum", "FusedMatMul", "TransposeMatMul"})
_MERGES = frozenset({"Add", "Sum", "Concat", "FusedConv"})
_BARE = frozenset({"norm_scale", "norm_shift", "norm_mean", "norm_variance", "vector", "factor"})
_ORDER = """
    vector factor place norm_scale norm_shift norm_mean norm_variance table conv linear depthwise grouped transposed
    recurrent_in recurrent_state recurrent_bias
"""
_RANK = {kind: number for number, kind in enumerate(_ORDER.split())}


@dataclasses.dataclass(frozen=True)
class Piece:
    """One stored tensor.

    Attributes:
        kind: see `tracing.Use`.
        part: of attention: q, k, v, several of them where they are packed, or "".
        level: how many weights lie before it in its block, on the longest way.
        height: how many lie behind it in its block.
        kernel: the longest side of its kernel.
        sizes: of its axes by role.
        is_last: no weight comes behind it.
        is_first: no weight comes before it.
    """

    name: str
    kind: str
    part: str
    level: int
    height: int
    kernel: int
    sizes: tuple[tuple[str, int], ...]
    is_last: bool
    is_first: bool

    @property
    def signature(self) -> tuple[object, ...]:
        """All but its name."""
        return (self.kind, self.part, self.level, self.height, self.kernel, self.sizes, self.is_last, self.is_first)


@dataclasses.dataclass(frozen=True)
class Block:
    """Tensors that stand together: a branch up to where it joins another one, or a layer of the main path.

    Attributes:
        stage: how many times the map has been halved before it.
        place: where it stands in its stage, 0 to 1.
        rank: how many blocks of its stage that are alike stand before it.
        n_alike: how many of these there are in its stage, itself among them.
        begin: the place of the first of them.
        merge: number of the operator that ends the branch, -1 for a layer of the main path.
        branch: tensors that scale what the branch adds; () where both ways have weights.
        is_sum: the branch ends in a sum.
    """

    pieces: tuple[Piece, ...]
    stage: float
    place: float
    rank: int = 0
    n_alike: int = 1
    begin: float = 0.0
    merge: int = -1
    branch: tuple[str, ...] = ()
    is_sum: bool = False

    @property
    def has_branch_of_its_own(self) -> bool:
        """Whether what it adds to a skip is scaled by tensors of its own: where they are zero, it does nothing."""
        return self.is_sum and bool(self.branch) and set(self.branch) <= {piece.name for piece in self.pieces}

    @property
    def signature(self) -> tuple[object, ...]:
        """Equal for blocks that are alike, wherever they stand."""
        return tuple(piece.signature for piece in self.pieces)


@dataclasses.dataclass(frozen=True)
class Structure:
    """The blocks of a model in order."""

    blocks: tuple[Block, ...]


def structure_of(trace: Trace) -> Structure:
    """The blocks of a model whose channels were followed."""
    ops = trace.flat.ops
    users: dict[int, list[str]] = {}
    for name, use in trace.uses.items():
        users.setdefault(use.op, []).append(name)
    weighs = [any(trace.uses[name].kind in MATRICES for name in users.get(i, ())) for i in range(len(ops))]
    # A table of tokens that is a layer's weight, too, weighs where it is that; what lies before is not the last layer.
    tables = {name for name, use in trace.uses.items() if use.kind == "table"}
    for i, op in enumerate(ops) if tables else ():
        weighs[i] = weighs[i] or (
            op.op_type in _PRODUCTS
            and any(t is not None and t.is_const and trace.owner(t) in tables for t in op.inputs)
        )
    number = {op: i for i, op in enumerate(ops)}
    constants = _made_of_constants(ops, weighs)
    level, before = _levels(ops, number, weighs, users, constants)
    height = _heights(ops, number, weighs, constants)
    merged, branches, sums = _merges(trace, ops, number, before)
    parts = _parts(trace)
    most = max((use.positions for use in trace.uses.values() if use.kind in MATRICES), default=0)
    groups: dict[tuple[int, int], list[str]] = {}
    for name, use in sorted(trace.uses.items(), key=lambda item: item[1].op):
        merge = merged.get(use.op, -1)
        groups.setdefault((merge, -1 if merge >= 0 else use.op), []).append(name)
    joined: list[tuple[int, list[str]]] = []
    for (merge, _), names in sorted(groups.items(), key=lambda item: trace.uses[item[1][0]].op):
        is_bare = merge < 0 and all(trace.uses[name].kind in _BARE for name in names)
        follows = bool(joined) and all(trace.uses[name].op >= joined[-1][0] for name in names)
        if is_bare and follows and not _begins_with_norm(trace, joined[-1][1]):
            joined[-1][1].extend(names)  # a norm behind a sum belongs to the branch before it
        else:
            joined.append((merge, list(names)))
    made: list[Block] = []
    stage = 0.0
    for merge, names in joined:
        places = {name: _place(trace.uses[name], level, height, weighs) for name in names}
        lowest = min(before for before, _ in places.values())
        least = min(behind for _, behind in places.values())
        pieces = []
        for name in names:
            use = trace.uses[name]
            is_matrix = use.kind in MATRICES
            sizes = _sizes(trace, name)
            pieces.append(
                Piece(
                    name,
                    use.kind,
                    parts.get(name, ""),
                    places[name][0] - lowest,
                    places[name][1] - least,
                    max((size for role, size in sizes if role.startswith("kernel")), default=1),
                    sizes,
                    places[name][1] <= (1 if is_matrix else 0),
                    places[name][0] == 0 and is_matrix,
                )
            )
        pieces.sort(key=lambda p: (p.level, -p.height, p.part, _RANK.get(p.kind, 99), trace.uses[p.name].op))
        positions = max((trace.uses[name].positions for name in names if trace.uses[name].kind in MATRICES), default=0)
        if positions and most:
            stage = round(math.log2(most / positions) / 2, 1)
        branch = branches.get(merge, ())
        block = Block(tuple(pieces), stage, place=0.0, merge=merge, branch=branch, is_sum=merge in sums)
        made.append(block)
    return Structure(tuple(_placed(made)))


def _begins_with_norm(trace: Trace, names: Sequence[str]) -> bool:
    """Whether a norm stands before the weights of a branch: the one behind the last sum is the model's then."""
    uses = [trace.uses[name] for name in names]
    first = min((use.op for use in uses if use.kind in MATRICES), default=-1)
    return any(use.kind == "norm_scale" and use.op < first for use in uses)


def _place(use: Use, level: list[int], height: list[int], weighs: list[bool]) -> tuple[int, int]:
    """How many weights lie before a tensor, and how many at and behind it.

    A bias lies behind its weight, also where one operator reads both.
    """
    behind = use.kind == "vector" and weighs[use.op]
    return level[use.op] + behind, height[use.op] - behind


def _placed(blocks: list[Block]) -> list[Block]:
    """Blocks with their places within their stages."""
    placed: list[Block] = []
    first = 0
    while first < len(blocks):
        last = first
        while last + 1 < len(blocks) and blocks[last + 1].stage == blocks[first].stage:
            last += 1
        n = last - first + 1
        alike: dict[tuple[object, ...], list[Block]] = {}
        for i, block in enumerate(blocks[first : last + 1]):
            place = i / (n - 1) if n > 1 else 0.5
            members = alike.setdefault(block.signature, [])
            begin = members[0].place if members else place
            members.append(dataclasses.replace(block, place=place, rank=len(members), begin=begin))
        counted = (dataclasses.replace(one, n_alike=len(each)) for each in alike.values() for one in each)
        placed += sorted(counted, key=lambda block: block.place)
        first = last + 1
    return placed


def _data(op: Op, made: Collection[Tensor] = ()) -> list[Tensor]:
    """What an operator computes from; sizes of a value say nothing of what it holds.

    Args:
        made: constants that weights make of others.
    """
    given = [] if op.op_type in ("Shape", "Size") else op.inputs
    return [tensor for tensor in given if tensor is not None and (not tensor.is_const or tensor in made)]


def _made_of_constants(ops: list[Op], weighs: list[bool]) -> set[Tensor]:
    """Constants that weights make of others: learned queries, biases of distances."""
    made: set[Tensor] = set()
    for op, is_weighed in zip(ops, weighs, strict=True):
        if is_weighed or any(tensor in made for tensor in op.inputs):
            made.update(tensor for tensor in op.outputs if tensor.is_const)
    return made


def _levels(
    ops: list[Op], number: dict[Op, int], weighs: list[bool], users: dict[int, list[str]], made: set[Tensor]
) -> tuple[list[int], list[int]]:
    """For each operator, how many weights lie before it on the longest way, and which users of parameters, as bits."""
    level = [0] * len(ops)
    before = [0] * len(ops)
    bit = {i: n for n, i in enumerate(sorted(users))}
    for i, op in enumerate(ops):
        for tensor in _data(op, made):
            j = number.get(tensor.producer) if tensor.producer is not None else None
            if j is not None and j < i:
                level[i] = max(level[i], level[j] + weighs[j])
                before[i] |= before[j]
        if i in bit:
            before[i] |= 1 << bit[i]
    return level, before


def _heights(ops: list[Op], number: dict[Op, int], weighs: list[bool], made: set[Tensor]) -> list[int]:
    """For each operator, how many weights lie at and behind it on the longest way."""
    height = [0] * len(ops)
    for i in range(len(ops) - 1, -1, -1):
        height[i] += weighs[i]
        for tensor in _data(ops[i], made):
            j = number.get(tensor.producer) if tensor.producer is not None else None
            if j is not None and j < i:
                height[j] = max(height[j], height[i])
    return height


def _merges(
    trace: Trace, ops: list[Op], number: dict[Op, int], before: list[int]
) -> tuple[dict[int, int], dict[int, tuple[str, ...]], set[int]]:
    """For users of parameters, the operator that ends their branch; what scales a branch beside a bare skip; sums."""
    users = sorted({use.op for use in trace.uses.values()})
    merged: dict[int, int] = {}
    branches: dict[int, tuple[str, ...]] = {}
    sums: set[int] = set()
    taken = 0
    ended: dict[Tensor, tuple[int, int, tuple[str, ...]]] = {}  # sums of branches: their merge, bits and writers
    for i, op in enumerate(ops):
        if op.op_type not in _MERGES or i in trace.in_norms or op.outputs[0] in trace.scores:
            continue  # what is added to scores is no branch of its own
        data = _data(op)
        sets = [before[number[t.producer]] if t.producer in number else 0 for t in data]
        sizes = {shape for tensor in data if (shape := trace.shape(tensor)) is not None}
        if len(sets) < 2 or (op.op_type != "Concat" and len(sizes) > 1):
            continue  # what is spread over another value (a mask) is no branch beside it
        if op.op_type == "FusedConv":  # what is added to a convolution: its weights are of the branch
            sets[0] |= before[i] & ~(sets[0] | sets[1])
        common = sets[0]
        union = 0
        for ways in sets:
            common &= ways
            union |= ways
        own = union & ~common & ~taken
        taken |= own
        for n, user in enumerate(users):
            if own >> n & 1:
                merged[user] = i
        if side_by_side := _side_by_side(data, sets, own, ended) if op.op_type != "Concat" else None:
            merged.update({user: i for user, merge in merged.items() if merge == side_by_side[0]})
            branches[i] = side_by_side[2]
            sums.add(i)
        elif own and op.op_type != "Concat":
            sums.add(i)
            busy = [t for t, ways in zip(data, sets, strict=True) if ways & own]
            if len(busy) == 1 and len(data) == 2:
                branches[i] = trace.writers_of(busy[0])
            elif all(trace.writers_of(tensor) for tensor in busy):
                ended[op.outputs[0]] = (i, own, tuple(name for tensor in busy for name in trace.writers_of(tensor)))
    return merged, branches, sums


def _side_by_side(
    data: list[Tensor], sets: list[int], own: int, ended: Mapping[Tensor, tuple[int, int, tuple[str, ...]]]
) -> tuple[int, int, tuple[str, ...]] | None:
    """Branches whose sum a bare skip is added to, as GPT-J and GPT-NeoX have them: that ends all of them.

    Args:
        own: what the sum ends besides, as bits: a norm that the branches share.
    """
    for tensor, other in ((0, 1), (1, 0)) if len(data) == 2 else ():
        found = ended.get(data[tensor])
        if found is not None and not sets[other] & (found[1] | own):
            return found
    return None


def _parts(trace: Trace) -> dict[str, str]:
    """What tensors give to attention: q and k by the product of both; v is what stands beside them."""
    parts: dict[str, str] = {}
    biases: dict[int, str] = {}
    for heads in trace.heads:
        for labels, part in ((heads.left, "q"), (heads.right, "k")):
            for name in _makers(trace, labels):
                parts[name] = parts.get(name, "") + (part if part not in parts.get(name, "") else "")
            biases.setdefault(trace.labels.root(labels.reshape(-1)), part)
    for name, use in trace.uses.items() if biases else ():
        if use.kind == "vector" and len(spans := [span for span in trace.axes[name] if span is not None]) == 1:
            parts.setdefault(name, biases.get(trace.labels.root(spans[0].labels), ""))
    return parts


def _makers(trace: Trace, labels: Ints) -> list[str]:
    """The tensor whose axis these labels were made for."""
    span = trace.labels.span_of(int(labels.reshape(-1)[0]))
    return [span.name] if span.name else []


def _sizes(trace: Trace, name: str) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((span.role or "channel", span.size) for span in trace.axes.get(name, ()) if span is not None))
