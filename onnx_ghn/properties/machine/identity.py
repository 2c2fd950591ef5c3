"""Which machine, provider and number of threads a calibration is of."""

from __future__ import annotations

import dataclasses
import hashlib
import re

from onnx_ghn.json_types import Json
from onnx_ghn.profiling.machine import system_info
from onnx_ghn.profiling.providers import short_name

__all__ = ["Identity", "identity_here"]

#: Of how probes are drawn and operators are described: a calibration of another one is measured anew.
_EDITION = 1


@dataclasses.dataclass(frozen=True)
class Identity:
    """What the times of operators belong to."""

    processor: str
    cores: int
    onnxruntime: str
    provider: str
    threads: int
    edition: int = _EDITION

    @property
    def threads_label(self) -> str:
        """The number of threads in words."""
        return "1 thread" if self.threads == 1 else f"{self.threads} threads"

    @property
    def label(self) -> str:
        """In a few words, for messages."""
        software = f"onnxruntime {self.onnxruntime}, {short_name(self.provider)}"
        return f"{self.processor}, {self.cores} cores, {software}, {self.threads_label}"

    @property
    def folder_name(self) -> str:
        """A name that another machine, version, provider or number of threads does not have."""
        told = "\n".join(map(str, dataclasses.astuple(self)))
        plain = re.sub(r"[^a-z0-9]+", "-", self.processor.lower()).strip("-")[:40]
        return f"{plain or 'processor'}-{self.threads}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"

    def to_dict(self) -> Json:
        """For JSON."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(told: Json) -> Identity:
        """Of what `to_dict` gave. Raises KeyError, TypeError, ValueError: it is something else."""
        texts = {name: str(told[name]) for name in ("processor", "onnxruntime", "provider")}
        numbers = {name: int(told[name]) for name in ("cores", "threads", "edition")}
        return Identity(**texts, **numbers)  # type: ignore[arg-type]


def identity_here(provider: str, threads: int) -> Identity:
    """Of this machine."""
    told = system_info()
    return Identity(str(told["processor"]), int(told["cores"]), str(told["onnxruntime"]), provider, threads)
