"""A run that was stopped and goes on ends where one that was not stopped ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from racing.entrant import Entrant
from racing.kept_state import KeptState
from racing.parts import Part, Splits
from racing.running import Outcome, train
from torch import Tensor, nn


def _net() -> nn.Module:
    """Batch norm has running statistics, dropout draws: both are state."""
    return nn.Sequential(nn.Linear(13, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_going_on_gives_the_same_weights_and_scores(tmp_path: Path, optimizer: str) -> None:
    entrant = Entrant("net", "perceptron", "table: wine", ("small",), optimizer, 12, _net, (0.01, 0.001))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    part = Part(torch.randn(70, 13, generator=generator), torch.randint(3, (70,), generator=generator))

    def run(module: nn.Module, kept: KeptState | None = None) -> Outcome:
        return train(module, entrant, Splits(part, part, part), 0.01, 0, 12, kept=kept)

    whole, stopped, resumed = (_fresh() for _ in range(3))
    expected = run(whole)
    kept = KeptState(tmp_path / "runs" / "state.pt", interval=3)
    with pytest.raises(KeyboardInterrupt):
        run(_stopping_after(stopped, 8), kept)
    assert torch.load(kept.path, weights_only=True)["step"] == 6
    found = run(resumed, kept)
    assert (found.judged, found.chosen, found.curve) == (expected.judged, expected.chosen, expected.curve)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    assert [path.name for path in kept.path.parent.iterdir()] == ["state.pt"]


def _fresh() -> nn.Module:
    torch.manual_seed(0)
    return _net()


def _stopping_after(module: nn.Module, steps: int) -> nn.Module:
    """The module, whose training ends in the middle of a step."""
    calls = 0

    def count(own: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal calls
        calls += own.training
        if calls > steps:
            raise KeyboardInterrupt

    hook: Callable[[nn.Module, tuple[Tensor, ...]], None] = count
    module.register_forward_pre_hook(hook)
    return module
