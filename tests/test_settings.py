"""Settings: bounds and choices that are told once, defaults of a data set, and what a subclass changes."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
import pytest

from onnx_ghn.errors import OptionError
from onnx_ghn.finetuning.settings import FinetuneOptions
from onnx_ghn.settings import Settings, made, required, setting, settings_of, values
from onnx_ghn.training.detection.settings import DetectorSettings
from onnx_ghn.training.ghn.settings import GHNSettings
from onnx_ghn.training.nas.settings import SearchConfig
from onnx_ghn.training.nets.settings import NetSettings
from onnx_ghn.training.properties.settings import Brief


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate(Settings):
    rate: float = setting(0.5, "A rate.", above=0, most=1)
    limit: float | None = setting(None, "A limit.")
    fast: bool = setting(False, "Whether it is fast.")
    names: tuple[str, ...] = setting((), "Names.")
    seed: int | None = setting(None, "A seed.", "-s", least=0)
    plain: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind(Rate):
    dataset: str = setting("cifar10", "Images.")
    kind: Literal["a", "b"] = setting("a", "A kind.", imagenet="b")
    rate: float = 0.25
    steps: int = required("Steps.", least=1, below=10)


def test_settings_are_listed_with_what_their_fields_say() -> None:
    told = {one.name: one for one in settings_of(Kind)}
    assert list(told) == ["dataset", "kind", "rate", "steps", "limit", "fast", "names", "seed"]  # `plain` says nothing
    assert (told["rate"].default, told["rate"].help, told["rate"].above) == (0.25, "A rate.", 0)
    assert (told["kind"].choices, told["seed"].kind, told["seed"].optional) == (("a", "b"), int, True)
    assert told["steps"].needed
    own = {"rate": 0.5, "limit": None, "fast": False, "names": (), "seed": None}
    assert {one.name: one.default for one in settings_of(Rate)} == own


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 0}, "`rate` 0 must be more than 0"),
        ({"rate": 1.5}, "`rate` 1.5 must be at most 1"),
        ({"rate": float("nan")}, "`rate` nan must be at most 1 and more than 0"),
        ({"seed": -1}, "`seed` -1 must be at least 0"),
        ({"kind": "c"}, "`kind` c must be one of a, b"),
        ({"steps": 10}, "`steps` 10 must be less than 10"),
        ({"steps": 1.5}, "`steps` 1.5 must be a whole number"),
        ({"steps": True}, "`steps` True must be a whole number"),
        ({"seed": "7"}, "`seed` '7' must be a whole number"),
        ({"limit": float("nan")}, "`limit` nan must be a number"),
        ({"limit": "2"}, "`limit` '2' must be a number"),
        ({"fast": "no"}, "`fast` 'no' must be True or False"),
        ({"names": "abc"}, r"`names` 'abc' must be a list, such as \['abc'\]"),
    ],
)
def test_values_out_of_bounds_are_refused(given: dict[str, object], message: str) -> None:
    assert Kind(**{"steps": 9, "rate": 1, "seed": 0, "kind": "b"}).steps == 9  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=f"^{message}$"):
        Kind(**{"steps": 1} | given)  # type: ignore[arg-type]


def test_numbers_of_other_libraries_are_numbers() -> None:
    kind = Kind(steps=np.int64(3), rate=np.float32(0.5), limit=math.inf, fast=np.bool_(True), names=["a"])  # type: ignore[arg-type]
    assert (kind.steps, kind.rate, kind.limit, bool(kind.fast)) == (3, 0.5, math.inf, True)


@pytest.mark.parametrize("kind", [FinetuneOptions, GHNSettings, NetSettings, DetectorSettings, SearchConfig, Brief])
def test_no_number_of_a_training_or_a_search_takes_nan_or_a_text(kind: type[Settings]) -> None:
    told = [one for one in settings_of(kind) if one.kind in (int, float)]
    assert told
    for one in told:
        for wrong in (math.nan, "1"):
            with pytest.raises(OptionError, match=f"^`{one.name}` "):
                one.check_value(wrong)


@pytest.mark.parametrize(
    ("kind", "name", "wrong"),
    [
        (GHNSettings, "label_smoothing", (-0.1, 1.0, 2.0)),
        (GHNSettings, "net_clip", (-1.0, 0.0)),
        (GHNSettings, "gamma", (-1.0, 0.0, 2.0)),
        (GHNSettings, "lr", (0.0, math.inf)),
        (GHNSettings, "wd", (-1.0, math.inf)),
        (NetSettings, "lr", (0.0, math.inf)),
        (NetSettings, "wd", (-1.0, math.inf)),
        (NetSettings, "auxiliary_weight", (-1.0, math.inf)),
        (NetSettings, "beta", (-1.0, math.inf)),
        (DetectorSettings, "lr", (0.0, math.inf)),
        (FinetuneOptions, "lr", (0.0, math.inf)),
        (SearchConfig, "max_latency_ms", (0.0, -1.0)),
        (SearchConfig, "max_percentile", (-1.0, 101.0)),
    ],
)
def test_numbers_that_make_no_sense_are_refused(kind: type[Settings], name: str, wrong: tuple[float, ...]) -> None:
    for value in wrong:
        with pytest.raises(OptionError, match=f"^`{name}` {value} must be "):
            kind(**{name: value})


def test_defaults_are_those_of_the_data_set() -> None:
    assert made(Kind, {"steps": 1, "seed": None, "other": 5, "plain": 6}) == Kind(steps=1)
    assert made(Kind, {"steps": 1, "dataset": "imagenet"}).kind == "b"
    assert made(Kind, {"steps": 1, "dataset": "imagenet", "kind": "a"}).kind == "a"


def test_what_is_extended_is_taken_out_again() -> None:
    assert Rate(**values(Kind(steps=2, seed=7, plain=4), Rate)) == Rate(rate=0.25, seed=7, plain=4)
