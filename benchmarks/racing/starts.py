"""The starts that race: a table of name → what makes a module's weights, beginning with its own seeded ones.

A new start is a function and one line of the table. Those that `only:KIND` names give the prediction to one kind of
tensor and leave everything else its own value.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from published_initialisers import mimetic_, orthogonal_
from torch import Tensor, nn

from onnx_ghn.exporters.pytorch import initialize
from onnx_ghn.ghn import load_ghn
from onnx_ghn.prediction.options import PolicyName, Post
from racing.entrant import Entrant
from racing.frameworks import flax_, keras_
from racing.kinds import KINDS
from racing.scaling import lsuv_scales_
from racing.tasks import TASKS, splits

__all__ = ["STARTS", "Situation", "Start", "UnavailableError", "begin"]

State = Mapping[str, Tensor]


class UnavailableError(Exception):
    """A start that this network does not have."""


@dataclasses.dataclass(frozen=True)
class Situation:
    """What a start may know: the network, the seed of its own values, where the data lie, which GHN predicts."""

    entrant: Entrant
    seed: int
    data_root: Path
    ghn: str | None = None

    def own(self) -> nn.Module:
        """The network with the values that torch, or its author, draws."""
        torch.manual_seed(self.seed)
        return self.entrant.build()

    def batch(self) -> Tensor:
        """Inputs of the training part, without labels."""
        task = TASKS[self.entrant.task]
        part = splits(task.name, self.data_root).train
        picked = torch.randperm(len(part), generator=torch.Generator().manual_seed(self.seed))[: task.batch_size]
        return task.prepare(part.inputs[picked])


Start = Callable[[Situation, nn.Module], None]


def begin(situation: Situation, start: str) -> nn.Module:
    """The network with the weights of a start. Raises UnavailableError, OnnxGhnError."""
    module = situation.own()
    STARTS[start](situation, module)
    return module


def own(situation: Situation, module: nn.Module) -> None:
    """As it was drawn."""


def policy(name: PolicyName, situation: Situation, module: nn.Module, post: Post = "none") -> None:
    """What `predict` gives under a policy."""
    module.load_state_dict(_predicted(situation, name, post))


def all_but_positions(situation: Situation, module: nn.Module, post: Post = "none") -> None:
    """Everything predicted, beside tables of positions as they were drawn."""
    tables = KINDS["position"](module)
    module.load_state_dict(_predicted(situation, "all", post, exclude=tuple(tables)))


def bare(cure: str, situation: Situation, module: nn.Module) -> None:
    """Everything predicted, with one cure, with all of them, or with none.

    Args:
        cure: "scales", outputs of a sensible scale; "apart", equal weights beside each other; "differences", copies in
            wide tensors; "positions", tables of positions as they were drawn; "head", the last layer as it was drawn;
            "together"; or "".
    """
    post: Post = "differences" if cure in ("differences", "together") else "none"
    kept = [name for own, kind in _OWN.items() if cure in (own, "together") for name in KINDS[kind](module)]
    module.load_state_dict(_predicted(situation, "all", post, cure=cure, exclude=tuple(kept)))


def only(kind: str, situation: Situation, module: nn.Module, post: Post = "none") -> None:
    """The tensors of one kind from the GHN, everything else as it was drawn."""
    chosen = KINDS[kind](module)
    if not chosen:
        raise UnavailableError(f"{situation.entrant.name} has no tensors of the kind {kind!r}")
    module.load_state_dict(_predicted(situation, "all", post, tuple(chosen)))


def lsuv(situation: Situation, module: nn.Module) -> None:
    """One scalar a layer, from one batch."""
    lsuv_scales_(module, situation.batch())


def policy_lsuv(name: PolicyName, situation: Situation, module: nn.Module) -> None:
    """The same after a prediction."""
    policy(name, situation, module)
    lsuv(situation, module)


def with_data(name: PolicyName, situation: Situation, module: nn.Module) -> None:
    """What `predict` gives under a policy where it is given one batch, without labels."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(path := Path(folder) / "batch.npy", situation.batch().numpy())
        initialize(module, TASKS[situation.entrant.task].example(), ghn=situation.ghn, policy=name, calibrate=path)


def drawn(situation: Situation, module: nn.Module) -> None:
    """Own values in layers that `predict` scales to outputs of scale 1 on inputs that it draws, whatever the policy."""
    rule = {"model": {}, "take": True, "why": "every network", "drawn": True}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        load_ghn(situation.ghn).save_pretrained(folder)
        content = {"knows": "nothing", "rules": {"auto": [], "early": []}, "unit_scales": [rule]}
        (folder / "policy.json").write_text(json.dumps(content))
        initialize(module, TASKS[situation.entrant.task].example(), ghn=folder, policy="auto", seed=situation.seed)


def orthogonal(situation: Situation, module: nn.Module) -> None:
    """Saxe et al. 2014."""
    orthogonal_(module, situation.seed)


def mimetic(situation: Situation, module: nn.Module) -> None:
    """Trockman & Kolter 2023, where there is attention."""
    if not mimetic_(module, situation.seed):
        raise UnavailableError(f"{situation.entrant.name} has no attention whose weights are known")


_OWN = {"positions": "position", "head": "head"}  # cures that leave tensors of a kind as they were drawn
_CURES = ("scales", "apart", "differences", *_OWN, "together")

STARTS: dict[str, Start] = {
    "own": own,
    "all": functools.partial(policy, "all"),
    "auto": functools.partial(policy, "auto"),
    "early": functools.partial(policy, "early"),
    "spatial": functools.partial(only, "conv2d-spatial"),
    "spatial+differences": functools.partial(only, "conv2d-spatial", post="differences"),
    "conv2d+differences": functools.partial(only, "conv2d", post="differences"),
    "all+differences": functools.partial(policy, "all", post="differences"),
    "all-positions": all_but_positions,
    "all-positions+differences": functools.partial(all_but_positions, post="differences"),
    "bare": functools.partial(bare, ""),
    **{f"bare+{cure}": functools.partial(bare, cure) for cure in _CURES},
    "lsuv": lsuv,
    "all+lsuv": functools.partial(policy_lsuv, "all"),
    "auto+data": functools.partial(with_data, "auto"),
    "auto+lsuv": functools.partial(policy_lsuv, "auto"),
    "own+drawn": drawn,
    "orthogonal": orthogonal,
    "mimetic": mimetic,
    "keras": lambda situation, module: keras_(module),
    "flax": lambda situation, module: flax_(module),
    **{f"only:{kind}": functools.partial(only, kind) for kind in KINDS},
}


@functools.lru_cache(maxsize=4)  # the starts and rates of one network and seed follow each other
def _predicted(
    situation: Situation,
    name: PolicyName,
    post: Post,
    only: tuple[str, ...] = (),
    *,
    exclude: tuple[str, ...] = (),
    cure: str = "together",
) -> State:
    """The state of the network with its own seeded values after an export, a prediction and a load.

    Args:
        only: names of the parameters that are predicted; all that the policy wants, where there are none.
        exclude: names of those that are not.
        cure: which correction `predict` makes; "together": all of them.
    """
    module = situation.own()
    initialize(
        module,
        TASKS[situation.entrant.task].example(),
        ghn=situation.ghn,
        policy=name,
        post=post,
        include=_patterns(only),
        exclude=_patterns(exclude),
        correct_scales=cure in ("scales", "together"),
        tell_apart=cure in ("apart", "together"),
    )
    return {key: value.clone() for key, value in module.state_dict().items()}


def _patterns(names: tuple[str, ...]) -> list[str]:
    """Expressions that match these names alone."""
    return [f"^{re.escape(name)}$" for name in names]
