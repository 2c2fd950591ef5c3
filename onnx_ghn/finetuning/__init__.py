"""Training an ONNX file as it is: converted to torch, tuned on labelled images, and written back under its own names.

result = finetune("init.onnx", "photos.zip", "tuned.onnx", FinetuneOptions(epochs=3))
print(result.before.top1, result.after.top1)

Names are resolved on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_ghn.lazy import lazy_names

if TYPE_CHECKING:
    from onnx_ghn.finetuning.settings import FinetuneOptions, StartOptions
    from onnx_ghn.finetuning.start_race import Entrant, StartRace, choose_start
    from onnx_ghn.finetuning.tuning import FinetuneResult, Finetuning, finetune

__all__ = [
    "Entrant",
    "FinetuneOptions",
    "FinetuneResult",
    "Finetuning",
    "StartOptions",
    "StartRace",
    "choose_start",
    "finetune",
]

_HOMES = {
    "Entrant": "start_race",
    "FinetuneOptions": "settings",
    "FinetuneResult": "tuning",
    "Finetuning": "tuning",
    "StartOptions": "settings",
    "StartRace": "start_race",
    "choose_start": "start_race",
    "finetune": "tuning",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
