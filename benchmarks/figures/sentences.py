"""Figures in the running text of pages: sentences made from the kept results, and those that repeat another page's."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from racing.entrants import ENTRANTS
from racing.summary import BASELINE, Result

from figures.inherited import above_the_ghn, behind_on_the_way
from figures.race import judged_starts, raced

__all__ = ["ALONE", "REPEATED", "SENTENCES", "Repeated", "figures_of", "running_text"]

_COUNTS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight")
_DRAWN = 8  # networks in the README's picture, of the suite `small`


@dataclasses.dataclass(frozen=True)
class Repeated:
    """Words of one page whose figures stand on another, in rows or sentences that begin with given words.

    Attributes:
        text: what the page says.
        source: the other page.
        rows: figure → how the line of the other page begins that has it.
    """

    text: str
    source: str
    rows: Mapping[str, str]


def running_text(page: Path) -> str:
    """A page without its tables, code and headings, on one line. Code in a sentence stays."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    kept = [line for line in text.splitlines() if not line.startswith(("    ", "|", "#", "<!--"))]
    return " ".join(" ".join(kept).split())


def figures_of(text: str) -> list[tuple[int, int]]:
    """Where measured figures stand in a text: decimal numbers, shares in percent, points. Versions are not measured."""
    bare = re.compile(r"\d[\d,]*(?:\.\d+)?(?= %| points)|(?<![\w.-])\d[\d,]*\.\d+(?![\w.]*\d)")
    return [match.span() for match in bare.finditer(text) if not text[: match.start()].endswith("Python ")]


def _after(result: Result) -> float:
    return float(result.mean[-1])


def _loss(network: str, start: str) -> float:
    """Points below the own start at the end."""
    of = raced("race.jsonl", "race_data.jsonl")[network]
    return -float(of[start].beside(of[BASELINE])[0][-1])


def _eight() -> str:
    """What became of the networks in the picture, by default."""
    found, by_default = raced("race.jsonl"), judged_starts()
    drawn = [name for name, entrant in ENTRANTS.items() if "small" in entrant.suites][:_DRAWN]
    gains = {}
    for name in drawn:
        gain, error = found[name][by_default[name]].beside(found[name][BASELINE])
        gains[name] = (float(gain[-1]), float(error[-1]))
    lower = [name for name, (gain, _) in gains.items() if gain < 0]
    if lower:
        raise ValueError(f"the sentence of the README is for networks that all end higher, not for {lower}")
    least, most = (each(gains, key=lambda name: gains[name][0]) for each in (min, max))
    own, default, everything = (_after(found[most][start]) for start in (BASELINE, by_default[most], "all"))
    return (
        f"All {_COUNTS[_DRAWN]} above end higher by default. The least is {_short(least)}'s, by {gains[least][0]:.1f} "
        f"points, the most {_short(most)}'s: it ends at {default:.1f} % instead of {own:.1f} %, with `--policy all` at "
        f"{everything:.1f} %."
    )


def _short(name: str) -> str:
    return name.removesuffix(", thin")


def _budgets() -> str:
    steps = sorted({ENTRANTS[name].steps for name in judged_starts()})
    return f"{steps[0]} to {steps[-1]} steps"


_SPECTRA_TO_THE_END = "MobileNetV2 on spoken-spectra, to the end"
_SHUFFLE_TO_THE_END = "ShuffleNetV2 on tiny-imagenet-20, to the end"
_RESNET_TO_THE_END = "ResNet-18 on imagenette-32, to the end"


def _long() -> str:
    """The networks that were trained to the end."""
    found = raced("race_end.jsonl")
    whole = [name for name, of in found.items() if len(of) > 1]
    shuffle, resnet, mobile = (found[n] for n in (_SHUFFLE_TO_THE_END, _RESNET_TO_THE_END, _SPECTRA_TO_THE_END))
    ends = {"shuffle": shuffle, "resnet": resnet, "mobile": mobile}
    own = {name: _after(of[BASELINE]) for name, of in ends.items()}
    taken = {name: _after(of["spatial" if name == "mobile" else "conv2d+differences"]) for name, of in ends.items()}
    (n,) = {len(of.seeds) for starts in ends.values() for of in starts.values()}
    gains = sorted(taken[name] - own[name] for name in ends)
    return (
        f"**{_COUNTS[len(whole)].capitalize()} long runs ended {gains[0]:.0f} to {gains[-1]:.0f} points higher**, of "
        f"forty passes and {_COUNTS[n]} seeds each. ResNet-18, on Imagenette at 32 × 32, ends at "
        f"{taken['resnet']:.1f} % by default and at {own['resnet']:.1f} % from its own start; ShuffleNetV2, on twenty "
        f"classes of Tiny-ImageNet, at {taken['shuffle']:.1f} % and at {own['shuffle']:.1f} %. On spectrograms the "
        f"default keeps the own start; with predicted kernels of 2 to 7 pixels, MobileNetV2 ends there at "
        f"{taken['mobile']:.1f} %, and from its own start at {own['mobile']:.1f} %"
    )


def _long_gain() -> str:
    of = raced("race_end.jsonl")[_SPECTRA_TO_THE_END]
    return f"A long one gained {_after(of['spatial']) - _after(of[BASELINE]):.0f}."


def _detector() -> str:
    return f"predicted weights ended {_loss('detector, thin', 'all'):.0f} points lower"


def _text_and_sound() -> str:
    bert, gpt, resnet = (_loss(name, "all") for name in ("BERT-like, news", "GPT, small", "ResNet-1D, small"))
    return (
        f"a BERT-like classifier lost {bert:.0f} points, a GPT {gpt:.0f} (of explained information), "
        f"a 1-D ResNet {resnet:.0f}"
    )


def _spectra() -> str:
    loss = _loss("MobileNetV2, thin, spectra", "spatial")
    return f"Short trainings lost up to {loss:.0f} points with predicted kernels."


def _further() -> str:
    kernels = [
        _loss(n, "spatial") for n in ("ResNet-18, thin, spectra", "MobileNetV2, thin, spectra", "detector, thin")
    ]
    resnet, mobilenet, detector = (f"{loss:.0f}" for loss in kernels)
    return (
        f"kernels cost a ResNet-18 of spectrograms {resnet} points at the end, a MobileNetV2 of spectrograms "
        f"{mobilenet}, a detector {detector}."
    )


def _scaled() -> str:
    """What networks gain that are not predicted, but whose layers are scaled."""
    gains = [-_loss(name, start) for name, start in judged_starts().items() if start == "own+drawn"]
    return f"{min(gains):.1f} to {max(gains):.1f} points higher by it"


def _scaled_text() -> str:
    return f"GPT-2 {_loss('GPT-2, 8 layers', 'own+drawn'):.1f} points, so that text keeps its own start."


def _scaled_vit() -> str:
    of = raced("race.jsonl")["ViT, small"]["own+drawn"]
    return f"but scales its layers, to {_after(of):.1f} ± {float(of.error[-1]):.1f} at the end."


#: By page, what has to stand in its running text, word by word.
SENTENCES: Mapping[str, tuple[Callable[[], str], ...]] = {
    "README.md": (_eight, _budgets, _long, _detector),
    "docs/results.md": (
        lambda: f"[The race](race.md): {len(judged_starts())} networks",
        _budgets,
        lambda: f"all-{_detector()}",
        _scaled_vit,
    ),
    "docs/limits.md": (
        _text_and_sound,
        lambda: _detector().replace("predicted weights", "Predicted backbones"),
        _spectra,
        _long_gain,
    ),
    "docs/race.md": (
        _further,
        _scaled,
        _scaled_text,
        lambda: f"With these four, rules are fitted on {len(judged_starts())} networks.",
    ),
    "docs/predict.md": (_scaled,),
    "docs/inherit.md": (above_the_ghn, behind_on_the_way),
}

_CARD = "checkpoints/ghn-cifar10/README.md"
#: By page, what repeats figures that another page shows in full.
REPEATED: Mapping[str, tuple[Repeated, ...]] = {
    "README.md": (Repeated("and 61.7 % with those of each batch", _CARD, {"61.7": "| ResNet-18 |"}),),
    "docs/results.md": (
        Repeated(
            "ShuffleNetV2 14.5 %, EfficientNet-B0 37.7 %, GoogLeNet 41.4 %",
            _CARD,
            {"14.5": "| ShuffleNetV2 1.0 |", "37.7": "| EfficientNet-B0 |", "41.4": "| GoogLeNet |"},
        ),
        Repeated(
            "reaches an average precision of 11.3 after ten epochs, one from random weights **39.1**",
            "docs/finetuning.md",
            {"11.3": "| 10 |", "39.1": "| 10 |"},
        ),
        Repeated(
            "is **0.90** for latency (multiply-accumulates: 0.64), and for accuracy **0.55** (the published recipe: "
            "0.52; the best baseline: 0.32). For noisy accuracy the published recipe and ours are equal, 0.46.",
            "docs/properties.md",
            {
                "0.90": "| chosen by cross-validation |",
                "0.64": "| MACs |",
                "0.55": "| chosen by cross-validation |",
                "0.52": "| embedding, published SVR |",
                "0.32": "| GHN-predicted accuracy |",
                "0.46": "| embedding, published SVR |",
            },
        ),
        Repeated(
            "reaches 0.54 on accuracy, ours **0.55**, and on noisy accuracy the published recipe is the better one, "
            "**0.51** against 0.48.",
            "docs/properties.md",
            {
                "0.54": "| today's embedding, published SVR |",
                "0.55": "| today's choice by cross-validation |",
                "0.51": "| today's embedding, published SVR |",
                "0.48": "| today's choice by cross-validation |",
            },
        ),
    ),
}

#: By page, figures that no kept result has: published ones, and what commands printed whose results were not kept.
ALONE: Mapping[str, tuple[str, ...]] = {
    "README.md": (
        "the published GHN-3 gained 0.2 points by 50 epochs of ImageNet.",
        "answers 52.5 % of the test images right with the statistics that the file holds",  # `make demo`, all images
        "random weights 10 %",  # of ten classes
    ),
    "docs/results.md": (
        "takes 2.9 s (median of 12); the same nets alone, without any GHN, take 4.6 s",  # benchmarks/train_step.py
    ),
}
