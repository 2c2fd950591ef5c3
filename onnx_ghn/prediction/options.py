"""How to predict: one definition for `predict`, `inspect_model`, `initialize` and the command line."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
from collections.abc import Sequence
from typing import Literal, Self, TypedDict, Unpack

from onnx_ghn.arguments import listed, path_given, value_told
from onnx_ghn.errors import OptionError
from onnx_ghn.selections import Selection
from onnx_ghn.settings import Settings, patterns_setting, setting

__all__ = [
    "DRAWN",
    "POST_STRENGTHS",
    "Fallback",
    "PolicyName",
    "Post",
    "PredictKeywords",
    "PredictOptions",
    "check_strength",
]

PolicyName = Literal["auto", "early", "all", "none"]
Fallback = Literal["standard", "keep"]

#: Values of `calibrate` that name no data of the user's.
DRAWN = ("noise", "synthetic")
Post = Literal["none", "noise", "orthogonal", "differences"]

#: Default strength of each cure.
POST_STRENGTHS = {"none": 0.0, "noise": 0.1, "orthogonal": 0.5, "differences": 1.0}


def check_strength(post: str, strength: float) -> None:
    """Raise OptionError for an unknown cure, or a strength that is out of its range."""
    if post not in POST_STRENGTHS:
        raise OptionError(f"`post` {post!r} must be one of {', '.join(POST_STRENGTHS)}")
    if not (math.isfinite(strength) and strength >= 0) or (post == "orthogonal" and strength > 1):
        raise OptionError(
            f"`post_strength` {strength} must be at least 0" + (", at most 1" if post == "orthogonal" else "")
        )


Names = str | os.PathLike[str] | Sequence[str]
"""Names of classes or tokens: a file, or the names themselves."""


class PredictKeywords(TypedDict, total=False):
    """The fields of `PredictOptions` as keyword arguments."""

    policy: PolicyName
    include: Sequence[str]
    exclude: Sequence[str]
    fallback: Fallback
    post: Post
    post_strength: float | None
    calibrate: str | os.PathLike[str]
    unfold_batchnorm: bool
    overwrite_special: bool
    correct_scales: bool
    tell_apart: bool
    donors: Sequence[str | os.PathLike[str]]
    blend: float
    selection: Selection
    classes: str | tuple[Names, Names] | None
    vocabulary: str | tuple[Names, Names] | None
    seed: int


@dataclasses.dataclass(frozen=True)
class PredictOptions(Settings):
    """What is predicted, and how.

    Raises:
        OptionError: a value that makes no sense, alone or with the others.
    """

    policy: PolicyName = setting(
        "auto",
        "Which parameters are predicted, and which keep their start: auto, those whose prediction was measured to end "
        "no worse; early, those that make the first epochs better; all; none.",
    )
    include: Sequence[str] = patterns_setting(
        "Fill only parameters whose name matches, whatever the policy; may be given several times."
    )
    exclude: Sequence[str] = patterns_setting(
        "Leave parameters whose name matches as they are; may be given several times."
    )
    fallback: Fallback = setting(
        "standard",
        "What parameters that no GHN predicts get: the standard initialisation of their role, or their own values.",
    )
    post: Post = setting("none", "How to break up the copies in tensors that are wider than what the GHN decodes.")
    post_strength: float | None = setting(
        None, "Strength of --post (default: noise 0.1, orthogonal 0.5, differences 1)."
    )
    calibrate: str | os.PathLike[str] = setting(
        "synthetic",
        "Inputs that set BatchNorm's running statistics: drawn pictures (synthetic; other inputs get noise), "
        "noise, or your own, which are best: images in a folder or zip archive, or samples for any model in an .npz, "
        ".npy or .txt file.",
        metavar="none|synthetic|noise|FOLDER|ZIP|NPZ|TXT",
    )
    unfold_batchnorm: bool = setting(False, "Put back the batch norms that an exporter folded into convolutions.")
    overwrite_special: bool = setting(
        False,
        "Fill also what the author of the file chose on purpose: priors, branches that begin at zero, LayerScales.",
    )
    correct_scales: bool = setting(
        True, "Scale weights where outputs would be five times larger or smaller than those of the weights before."
    )
    tell_apart: bool = setting(
        True,
        "Add a little noise to a weight that comes out equal to one beside it, so that they learn different things.",
    )
    donors: Sequence[str] = setting(
        (),
        "A trained ONNX file of any architecture to inherit weights from; may be given several times. What no donor "
        "has a counterpart of gets what it would get without.",
        option="--from",
        metavar="DONOR.onnx",
        check="file",
    )
    blend: float = setting(
        0.0, "How far inherited weights go towards the GHN's: 0 keeps the donor's, 1 takes the GHN's.", least=0, most=1
    )
    selection: Selection = setting(
        "uniform",
        "Which channels of a wider donor are taken: evenly spaced ones, the first, or those with the largest weights.",
    )
    classes: str | tuple[Names, Names] | None = setting(
        None,
        "Names of the donor's classes and of the model's, a name a line or JSON (a list, or {index: name}): rows of "
        "the classifier are taken by name, and those that the donor has not get what they would get without.",
        metavar="DONOR.txt:NEW.txt",
    )
    vocabulary: str | tuple[Names, Names] | None = setting(
        None,
        "Tokens of the donor and of the model, likewise: rows of embeddings and of the layer that tells tokens apart.",
        metavar="DONOR.txt:NEW.txt",
    )
    seed: int = setting(0, "Random seed.", least=0, below=2**63)

    @classmethod
    def of(cls, options: Self | None = None, **changes: Unpack[PredictKeywords]) -> Self:
        """Options (the defaults where there are none) with some of them changed."""
        made = cls() if options is None else options
        if not isinstance(made, cls):
            raise OptionError(f"`options` {value_told(made)} must be {cls.__name__}, or single options by their names")
        return dataclasses.replace(made, **changes)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            object.__setattr__(self, name, listed(name, getattr(self, name)))
        donors = [path_given("donors", donor, "or a list of paths") for donor in listed("donors", self.donors)]
        object.__setattr__(self, "donors", tuple(donors))
        super().__post_init__()
        _ = self._patterns  # says what is wrong with them before any work is done
        if self.post == "none" and self.post_strength:
            raise OptionError(
                f"`post_strength` {self.post_strength} has no meaning without `post` noise, orthogonal or differences"
            )
        check_strength(self.post, self.strength)
        if self.blend and not self.donors:
            raise OptionError(f"`blend` {self.blend} has no meaning without `donors`: name a trained file")
        if self.selection != "uniform" and not self.donors:
            raise OptionError(f"`selection` {self.selection} has no meaning without `donors`: name a trained file")

        for name in ("classes", "vocabulary"):
            if getattr(self, name) is not None and not self.donors:
                raise OptionError(f"`{name}` has no meaning without `donors`: name a trained file")

    @property
    def strength(self) -> float:
        """Of `post`."""
        return self.strength_of(self.post)

    def strength_of(self, post: Post) -> float:
        """The strength of a cure: what is asked for where it is that of `post`, else its default."""
        if post == self.post and self.post_strength is not None:
            return self.post_strength
        return POST_STRENGTHS.get(post, 0.0)

    @property
    def calibrates(self) -> bool:
        """Whether running statistics are to be measured."""
        return str(self.calibrate) != "none"

    @property
    def has_own_inputs(self) -> bool:
        """Whether what is measured is measured on inputs that the user gives."""
        return self.calibrates and str(self.calibrate) not in DRAWN

    def wants(self, name: str) -> bool:
        """Whether a tensor of that name is to be filled."""
        included, excluded = self._patterns
        if included and not any(pattern.search(name) for pattern in included):
            return False
        return not any(pattern.search(name) for pattern in excluded)

    @functools.cached_property
    def _patterns(self) -> tuple[tuple[re.Pattern[str], ...], ...]:
        """Compiled: what to include, what to exclude."""
        try:
            return tuple(tuple(map(re.compile, expressions)) for expressions in (self.include, self.exclude))
        except re.error as error:
            raise OptionError(f"{error.pattern!r} is no regular expression: {error}") from error
