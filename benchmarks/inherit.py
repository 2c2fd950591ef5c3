"""What inherited weights are worth: recipients × donors × starts × rates × seeds, on data that the donor has not seen.

    python benchmarks/inherit.py --out inherit.jsonl                      # goes on where it was stopped
    python benchmarks/inherit.py --out inherit.jsonl --pair squeezenet --seeds 1 --budget-factor 0.2
    python benchmarks/inherit.py --out inherit.jsonl --table              # prints what is there, and runs nothing

Donors are trained here first, on Tiny-ImageNet at 32 pixels or on text, each once, and kept in --donors as ONNX files;
one is a published SqueezeNet. The starts are the recipient's own, the GHN's, `--from`, and published weight selection
(arXiv 2311.18823) where donor and recipient are of one family. The rate of each start is the one whose run of seed 0
ends best on a held-out part that is not judged, and where that is the largest or smallest of the grid, rates beyond it
are tried; scores are after 10, 50 and 100 % of the budget. Runs that diverged are left out of means, and counted.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import torch
from racing.cells import cell
from racing.choice import CHOICE_SEED, allowed_rates, best_rate, missing_rates
from racing.data.texts import CHARACTERS
from racing.entrant import ATTENTION, TWO_D, Entrant
from racing.kept_state import KeptState
from racing.nets import attention, packages
from racing.provenance import revision, versions
from racing.rows import Row, append, read, repair
from racing.running import train
from racing.tasks import TASKS, splits
from torch import nn

from onnx_ghn.exporters.pytorch import export, initialize

STARTS = ("own", "ghn", "from", "selection")
SHARES = (0.1, 0.5, 1.0)
_SQUEEZENET = "squeezenet1_0_imagenet.onnx"


@dataclasses.dataclass(frozen=True)
class Pair:
    """A recipient and its donor.

    Attributes:
        donor: one of `DONORS`, or the name of a published file.
        same_family: whether weight selection, tensor by tensor of the same name, applies.
    """

    recipient: Entrant
    donor: str
    same_family: bool = False

    @property
    def name(self) -> str:
        return f"{self.recipient.name} from {self.donor}"


def _resnet(blocks: Sequence[int], width: int, classes: int) -> nn.Module:
    from timm.models.resnet import BasicBlock, ResNet

    channels = tuple(width * times for times in (1, 2, 4, 8))
    return ResNet(BasicBlock, tuple(blocks), num_classes=classes, stem_width=width, channels=channels)  # type: ignore[arg-type]


def _vit(width: int, heads: int, depth: int, classes: int) -> nn.Module:
    return attention.VisionTransformer(3, 32, classes, 4, width, depth, heads)


def _gpt(width: int, heads: int, depth: int) -> nn.Module:
    return attention.Gpt(CHARACTERS, 64, width, depth, heads)


def _half_squeezenet(classes: int) -> nn.Module:
    """SqueezeNet 1.1 (Iandola et al. 2016, as torchvision builds it) with half the channels everywhere."""
    from torchvision.models import SqueezeNet
    from torchvision.models.squeezenet import Fire

    def halved(fire: Fire) -> Fire:
        read, squeezed = fire.squeeze.in_channels, fire.squeeze.out_channels
        return Fire(read // 2, squeezed // 2, fire.expand1x1.out_channels // 2, fire.expand3x3.out_channels // 2)

    module = SqueezeNet("1_1", num_classes=classes)
    module.features = nn.Sequential(*(halved(one) if isinstance(one, Fire) else one for one in module.features))
    module.features[0] = nn.Conv2d(3, 32, 3, 2)
    module.classifier[1] = nn.Conv2d(256, classes, 1)
    return module


def _donor(name: str, kind: str, task: str, steps: int, build: Callable[[], nn.Module]) -> Entrant:
    return Entrant(name, kind, task, ("donor",), "sgd" if kind == TWO_D else "adamw", steps, build)


def _recipient(
    name: str, kind: str, task: str, steps: int, build: Callable[[], nn.Module], *, has_norms: bool = True
) -> Entrant:
    by_sgd = kind == TWO_D and has_norms  # a SqueezeNet does not begin to learn by it
    rates = (0.0316, 0.01, 0.00316) if by_sgd else ()
    return Entrant(name, kind, task, ("inherit",), "sgd" if by_sgd else "adamw", steps, build, rates)


DONORS = {
    entrant.name: entrant
    for entrant in (
        _donor("resnet18", TWO_D, "tiny-imagenet-200", 6000, lambda: _resnet((2, 2, 2, 2), 64, 200)),
        _donor("vit", ATTENTION, "tiny-imagenet-200", 6000, lambda: _vit(192, 6, 6, 200)),
        _donor("gpt", ATTENTION, "shakespeare-64", 4000, lambda: _gpt(128, 4, 4)),
    )
}

PAIRS = (
    Pair(
        _recipient("half the width", TWO_D, "imagenette-32", 800, lambda: _resnet((2, 2, 2, 2), 32, 10)),
        "resnet18",
        True,
    ),
    Pair(
        _recipient("half the depth", TWO_D, "imagenette-32", 800, lambda: _resnet((1, 1, 1, 1), 64, 10)),
        "resnet18",
        True,
    ),
    Pair(_recipient("twice the depth", TWO_D, "imagenette-32", 400, lambda: _resnet((3, 4, 6, 3), 64, 10)), "resnet18"),
    Pair(
        _recipient("MobileNetV2", TWO_D, "imagenette-32", 800, lambda: packages.torchvision_net("mobilenet_v2", 10)),
        "resnet18",
    ),
    Pair(
        _recipient(
            "spectra, half the width", TWO_D, "spoken-spectra", 600, lambda: _one_channel(_resnet((2, 2, 2, 2), 32, 10))
        ),
        "resnet18",
    ),
    Pair(_recipient("ViT, half the width", ATTENTION, "imagenette-32", 800, lambda: _vit(96, 3, 6, 10)), "vit", True),
    Pair(_recipient("ViT, half the depth", ATTENTION, "imagenette-32", 800, lambda: _vit(192, 6, 3, 10)), "vit", True),
    Pair(_recipient("ViT, wider", ATTENTION, "imagenette-32", 400, lambda: _vit(384, 12, 6, 10)), "vit"),
    Pair(_recipient("GPT, half the width", ATTENTION, "reviews-64", 800, lambda: _gpt(64, 2, 4)), "gpt", True),
    Pair(_recipient("GPT, half the depth", ATTENTION, "reviews-64", 800, lambda: _gpt(128, 4, 2)), "gpt", True),
    Pair(_recipient("GPT, wider", ATTENTION, "reviews-64", 800, lambda: _gpt(256, 8, 4)), "gpt"),
    Pair(
        _recipient("squeezenet1_1", TWO_D, "imagenette-64", 500, lambda: packages.torchvision_net("squeezenet1_1", 10)),
        _SQUEEZENET,
    ),
    Pair(
        _recipient(
            "MobileNetV2 at 64", TWO_D, "imagenette-64", 500, lambda: packages.torchvision_net("mobilenet_v2", 10)
        ),
        _SQUEEZENET,
    ),
    *(
        Pair(
            _recipient(
                f"{name} at 128", TWO_D, "imagenette-128", 250, functools.partial(build, 10), has_norms=has_norms
            ),
            _SQUEEZENET,
        )
        for name, build, has_norms in (
            ("squeezenet1_1", functools.partial(packages.torchvision_net, "squeezenet1_1"), False),
            ("SqueezeNet 1.1 of half the width", _half_squeezenet, False),
            ("MobileNetV2", functools.partial(packages.torchvision_net, "mobilenet_v2"), True),
        )
    ),
)


def _one_channel(module: nn.Module) -> nn.Module:
    """The network for pictures of one channel."""
    first = module.conv1
    assert isinstance(first, nn.Conv2d)
    module.conv1 = nn.Conv2d(1, first.out_channels, 7, 2, 3, bias=False)
    return module


def donor_file(name: str, folder: Path, data_root: Path) -> Path:
    """The donor, trained and written where it is not there yet; training that was stopped goes on."""
    if name == _SQUEEZENET:
        return data_root / "models" / _SQUEEZENET
    path = folder / f"{name}.onnx"
    if not path.exists():
        entrant = DONORS[name]
        task = TASKS[entrant.task]
        torch.manual_seed(0)
        module = entrant.build()
        state = KeptState(folder / f"{name}.state.pt")
        outcome = train(module, entrant, splits(task.name, data_root), entrant.rates[1], 0, entrant.steps, kept=state)
        click.echo(f"{name}: {outcome.judged.metric} on {task.name} in {outcome.seconds:.0f} s", err=True)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(module.state_dict(), folder / f"{name}.pt")
        export(module.eval(), path, task.example())
        state.path.unlink(missing_ok=True)
    return path


def begin(pair: Pair, start: str, seed: int, donor: Path) -> nn.Module:
    """The recipient with the weights of a start."""
    torch.manual_seed(seed)
    module = pair.recipient.build()
    task = TASKS[pair.recipient.task]
    example = task.example()
    if start == "ghn":
        initialize(module.eval(), example, policy="all", seed=seed)
    elif start == "from":
        initialize(module.eval(), example, donors=[donor], seed=seed)
        if pair.donor == _SQUEEZENET:
            _rescale_inputs(module)
    elif start == "selection":
        select_weights(module, torch.load(donor.with_suffix(".pt"), weights_only=True))
    return module.train()


def _rescale_inputs(module: nn.Module) -> None:
    """That donor takes pixels of 0 to 255 less their mean; the task divides them by their deviation, too."""
    first = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        first.weight *= 255 * torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)


def select_weights(module: nn.Module, donor: dict[str, torch.Tensor]) -> None:
    """Published weight selection: evenly spaced elements along each axis of the tensor of the same name."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            given = donor.get(name)
            if (
                given is None
                or given.ndim != tensor.ndim
                or any(n > m for n, m in zip(tensor.shape, given.shape, strict=True))
            ):
                continue
            if (".head" in f".{name}" or ".fc" in f".{name}") and tensor.shape[0] != given.shape[0]:
                continue  # a classifier of other classes
            for axis, size in enumerate(tensor.shape):
                index = torch.linspace(0, given.shape[axis] - 1, size).round().long()
                given = given.index_select(axis, index)
            tensor.copy_(given)


def run(pair: Pair, start: str, rate: float, seed: int, steps: int, donor: Path, data_root: Path) -> Row:
    """One run."""
    entrant = pair.recipient
    task = TASKS[entrant.task]
    module = begin(pair, start, seed, donor)
    outcome = train(module, entrant, splits(task.name, data_root), rate, seed, steps, shares=SHARES)
    return Row(
        network=pair.name,
        kind=entrant.kind,
        task=task.name,
        suite="inherit",
        metric=task.objective.metric,
        start=start,
        rate=rate,
        seed=seed,
        steps=steps,
        optimizer=entrant.optimizer,
        marks=outcome.steps,
        judged=outcome.judged.metric,
        choosing=outcome.chosen.metric,
        judged_loss=outcome.judged.loss,
        curve=outcome.curve,
        diverged=outcome.diverged,
        seconds=round(outcome.seconds, 2),
        cpu_seconds=round(outcome.cpu_seconds, 2),
        versions=versions(None),
        revision=revision(),
    )


@dataclasses.dataclass(frozen=True)
class Scores:
    """What came of a start at its best rate: mean and deviation at each mark (nan of one seed), failed runs."""

    rate: float
    marks: tuple[tuple[float, float], ...]
    n_seeds: int
    n_failed: int


def scores_of(rows: Sequence[Row], rates: Sequence[float]) -> Scores | None:
    """Those of one pair, start and budget; None where no run ended with a score."""
    rate = best_rate(rows, rates)
    chosen = [row for row in rows if row.rate == rate]
    ends = [[score for score in row.judged if score is not None] for row in chosen]
    whole = [scores for scores in ends if len(scores) == len(SHARES)]
    if rate is None or not whole:
        return None
    columns = zip(*whole, strict=True)
    marks = tuple((statistics.mean(c), statistics.stdev(c) if len(c) > 1 else math.nan) for c in columns)
    return Scores(rate, marks, len(whole), len(chosen) - len(whole))


def table(rows: Sequence[Row]) -> str:
    """Mean ± deviation over seeds at each mark, for each pair, budget and start at its best rate; the best is bold.

    Runs that diverged are in no mean; how many there are stands beside the seeds.
    """
    head = ("recipient from donor", "steps", "start", "rate", "seeds", "10 %", "50 %", "100 %")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for pair in PAIRS:
        for steps in sorted({row.steps for row in rows if row.network == pair.name}):
            own = [row for row in rows if (row.network, row.steps) == (pair.name, steps)]
            each = {s: scores_of([row for row in own if row.start == s], pair.recipient.rates) for s in STARTS}
            found = {start: scores for start, scores in each.items() if scores is not None}
            for start, scores in found.items():
                cells = [
                    cell(mean, deviation, best=max(other.marks[i][0] for other in found.values()))
                    for i, (mean, deviation) in enumerate(scores.marks)
                ]
                seeds = f"{scores.n_seeds}" + (f", {scores.n_failed} diverged" if scores.n_failed else "")
                lines.append(f"| {pair.name} | {steps} | {start} | {scores.rate:g} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _left_to_run(out: Path, pair: Pair, start: str, seed: int, steps: int) -> tuple[float, ...]:
    """Rates that one start and seed still lack: of seed 0 the grid, and what lies beyond where its end is best."""
    rows = [row for row in read(out) if (row.network, row.start, row.steps) == (pair.name, start, steps)]
    if seed == CHOICE_SEED:
        return missing_rates(rows, pair.recipient.rates)
    rate = best_rate(rows, pair.recipient.rates)
    done = any(row.rate == rate and row.seed == seed for row in rows)
    return () if rate is None or done else (rate,)


@click.command()
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Lines of results.")
@click.option("--donors", default=Path("donors"), show_default=True, type=click.Path(path_type=Path))
@click.option("--data-root", default=Path("../shared/datasets"), show_default=True, type=click.Path(path_type=Path))
@click.option("--pair", "names", multiple=True, help="Only pairs whose name contains it.")
@click.option("--start", "starts", multiple=True, type=click.Choice(STARTS), default=STARTS, show_default=True)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--budget-factor", default=1.0, show_default=True, type=click.FloatRange(min=0, min_open=True))
@click.option("--minutes", type=click.FloatRange(min=0), help="Begin no further run after so many.")
@click.option("--table", "only_table", is_flag=True, help="Print what is there, and run nothing.")
def main(
    out: Path, donors: Path, data_root: Path, names: tuple[str, ...], starts: tuple[str, ...], seeds: int,
    budget_factor: float, minutes: float | None, only_table: bool,
) -> None:  # fmt: skip
    """Run what is missing, and print the table."""
    if only_table:
        click.echo(table(read(out)))
        return
    warnings.simplefilter("ignore")
    repair(out)
    torch.set_num_threads(1)
    until = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    chosen = [pair for pair in PAIRS if not names or any(name.lower() in pair.name.lower() for name in names)]
    if not chosen:
        raise click.UsageError("there is no such pair: leave out --pair, or give a part of a name")
    for seed in range(seeds):
        for pair in chosen:
            steps = max(10, round(budget_factor * pair.recipient.steps))
            for start in starts:
                if start == "selection" and not pair.same_family:
                    continue
                for _ in allowed_rates(pair.recipient.rates):  # no more runs than that, one after the other
                    rates = _left_to_run(out, pair, start, seed, steps)
                    if not rates or time.monotonic() > until:
                        break
                    donor = donor_file(pair.donor, donors, data_root)
                    row = run(pair, start, rates[0], seed, steps, donor, data_root)
                    append(out, row)
                    click.echo(f"{pair.name}, {start}, rate {rates[0]:g}, seed {seed}: {row.judged}", err=True)
    click.echo(table(read(out)))


if __name__ == "__main__":
    main()
