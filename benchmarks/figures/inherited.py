"""What inherited weights are worth, from what benchmarks/inherit.py wrote."""

from __future__ import annotations

from inherit import PAIRS, Scores, scores_of, table
from racing.rows import read

from figures.sources import RESULTS

__all__ = ["above_the_ghn", "behind_on_the_way", "inherited"]

_HALF_THE_WIDTH = "half the width from resnet18"
_PHOTOGRAPHS = (_HALF_THE_WIDTH, "half the depth from resnet18")


def inherited() -> str:
    """Each start of each pair at parts of the budget."""
    return table(read(RESULTS / "inherit.jsonl"))


def above_the_ghn() -> str:
    """What the recipients that learn photographs from a ResNet-18 end at, start by start."""
    ends = [[_scores(name, start).marks[-1][0] for start in ("own", "ghn", "from")] for name in _PHOTOGRAPHS]
    by_ghn = sorted(ghn - own for own, ghn, _ in ends)
    by_donor = sorted(donor - ghn for _, ghn, donor in ends)
    return (
        f"On Imagenette at 32 pixels they end {by_donor[0]:.0f} and {by_donor[-1]:.0f} points above the GHN's weights, "
        f"which end {by_ghn[0]:.0f} and {by_ghn[-1]:.0f} above the recipient's own start"
    )


def behind_on_the_way() -> str:
    """What weight selection loses to `--from` at half the width, before the end and at it."""
    marks = zip(*(_scores(_HALF_THE_WIDTH, start).marks for start in ("from", "selection")), strict=True)
    behind = [donor[0] - selected[0] for donor, selected in marks]
    return (
        f"at half the width it is behind on the way, by up to {max(behind):.0f} points for the ResNet, and "
        f"{behind[-1]:.1f} at the end."
    )


def _scores(name: str, start: str) -> Scores:
    """Those of one start of a pair at its best rate."""
    (pair,) = (pair for pair in PAIRS if pair.name == name)
    rows = [row for row in read(RESULTS / "inherit.jsonl") if (row.network, row.start) == (name, start)]
    found = scores_of(rows, pair.recipient.rates)
    if found is None:
        raise ValueError(f"{RESULTS / 'inherit.jsonl'} has no run of {name!r} from {start!r} that ended")
    return found
