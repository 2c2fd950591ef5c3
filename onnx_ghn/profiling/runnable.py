"""A session and what it is run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.profiling.feeds import Feed
from onnx_ghn.profiling.sessions import one_line_failures

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Runnable"]


class Runnable:
    """A session and inputs that it takes."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        feed: Feed,
        model: str | bytes,
        creation_ms: float,
        notes: list[str],
        folder: str = "",
    ) -> None:
        self.feed, self.model, self.creation_ms, self.notes = feed, model, creation_ms, notes
        self.folder = folder  # where external data of a model that is given as bytes lie
        self.session: onnxruntime.InferenceSession | None = session
        self.is_shared = False  # the session is that of an earlier point
        self.first_ns = 0  # of the session's first run, in which it also takes its memory

    def run(self, feed: Feed | None = None) -> None:
        """Run once, for all outputs; on other inputs of the same model, where they are given."""
        with one_line_failures("onnxruntime cannot run the model"):
            assert self.session is not None
            self.session.run(None, self.feed if feed is None else feed)
