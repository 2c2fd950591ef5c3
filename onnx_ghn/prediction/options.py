"""How to predict: one definition for `predict`, `inspect_model`, `initialize` and the command line."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from typing import Literal, Self, TypedDict, Unpack, get_args

from onnx_ghn.errors import OptionError
from onnx_ghn.prediction.postprocess import POST_STRENGTHS, Post, check_strength

__all__ = ["Fallback", "PredictKeywords", "PredictOptions"]

Fallback = Literal["standard", "keep"]


class PredictKeywords(TypedDict, total=False):
    """The fields of `PredictOptions` as keyword arguments."""

    include: Sequence[str]
    exclude: Sequence[str]
    fallback: Fallback
    post: Post
    post_strength: float | None
    calibrate: str | os.PathLike[str]
    unfold_batchnorm: bool
    seed: int


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """What is predicted, and how.

    Raises:
        OptionError: a value that makes no sense, alone or with the others.
    """

    include: Sequence[str] = ()  # regular expressions; only parameters whose name one of them matches are filled
    exclude: Sequence[str] = ()  # regular expressions; parameters whose name one of them matches keep their values
    fallback: Fallback = (
        "standard"  # what no GHN predicts gets the standard initialisation of its role, or keeps its own
    )
    post: Post = "none"  # how the copies in tensors that are wider than what the GHN decodes are told apart
    post_strength: float | None = None  # None: the default of `post`, see `postprocess.POST_STRENGTHS`
    calibrate: str | os.PathLike[str] = "noise"  # batch norms' running statistics: "noise", a folder of images, "none"
    unfold_batchnorm: bool = False  # put back the batch norms that an exporter folded into convolutions
    seed: int = 0  # of everything that is drawn at random

    @classmethod
    def of(cls, options: Self | None = None, **changes: Unpack[PredictKeywords]) -> Self:
        """Options (the defaults where there are none) with some of them changed."""
        return dataclasses.replace(options or cls(), **changes)

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            expressions: str | Sequence[str] = getattr(self, name)
            object.__setattr__(self, name, (expressions,) if isinstance(expressions, str) else tuple(expressions))
        _ = self._patterns  # says what is wrong with them before any work is done
        if self.fallback not in get_args(Fallback):
            raise OptionError(f"`fallback` {self.fallback!r} must be standard or keep")
        if not 0 <= self.seed < 2**63:
            raise OptionError(f"`seed` {self.seed} must be at least 0 and below 2^63")
        if self.post == "none" and self.post_strength:
            raise OptionError(f"`post_strength` {self.post_strength} has no meaning without `post` noise or orthogonal")
        check_strength(self.post, self.strength)

    @property
    def strength(self) -> float:
        """Of `post`."""
        return POST_STRENGTHS.get(self.post, 0.0) if self.post_strength is None else self.post_strength

    @property
    def calibrates(self) -> bool:
        """Whether running statistics are to be measured."""
        return str(self.calibrate) != "none"

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
