"""The options of `properties` that concern this machine."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal, TypedDict

from onnx_ghn.cli.input_shapes import GivenShapes, shapes_by_input
from onnx_ghn.cli.terminal import bar, spinner
from onnx_ghn.errors import OptionError
from onnx_ghn.json_types import Json
from onnx_ghn.settings import Settings, setting

if TYPE_CHECKING:
    from onnx_ghn.properties import MachineReport

__all__ = ["OnMachine"]

_SECONDS = 120.0


class GivenSizes(TypedDict):
    """What is free in a model's inputs, by their names and by symbols of their shapes."""

    shapes: dict[str, tuple[int, ...]]
    sizes: dict[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnMachine(Settings):
    """Calibrate, and what to predict with it."""

    calibrate_machine: bool = setting(
        False,
        "Measure what operators cost on this machine at each of --threads, and keep it; after a cut, this goes on.",
    )
    seconds: float | None = setting(
        None,
        "How long to measure at each of --threads, with what earlier runs have measured (default: 120).",
        above=0,
        below=math.inf,
    )
    anew: bool = setting(False, "Forget what was measured on this machine before.")
    on: Literal["this-machine"] | None = setting(
        None, "Predict latency and peak memory on this machine alone, of a model of any kind."
    )
    calibration: str | None = setting(
        None, "Folder of another calibration, such as another machine's.", metavar="FOLDER", check="file"
    )
    threads: tuple[int, ...] = setting(
        (), "Threads within an operator (default: as calibrated, else all cores).", form="numbers", metavar="N,…"
    )
    provider: str = setting("cpu", "Execution provider, as of `profile`.")
    batch: int | None = setting(None, "Batch size (default: as the file says).", least=1)
    shapes: GivenShapes = setting(
        (),
        "Shape of an input, such as x:1x3x224x224; may be given several times.",
        option="--shape",
        form="named_shapes",
        metavar="[INPUT:]DIMS",
    )
    size: tuple[tuple[str, tuple[int, ...]], ...] = setting(
        (),
        "Size of a symbol of the inputs' shapes, such as sequence=128; may be given several times.",
        form="named_sizes",
        metavar="SYMBOL=N",
    )

    @property
    def is_alone(self) -> bool:
        """Nothing but this machine was asked for."""
        return self.on is not None or self.calibration is not None

    def check(self, model: str | None, predictor: str | None) -> None:
        """Refuse options that have no place beside the others. Raises OptionError."""
        if not self.calibrate_machine:
            for name in ("seconds", "anew"):
                if getattr(self, name):
                    raise OptionError(f"`{name}` belongs to --calibrate-machine; add it")
        if model is None and self.calibrate_machine:
            for name in ("on", "calibration", "batch", "size", "shapes"):
                if getattr(self, name):
                    raise OptionError(f"`{name}` belongs to a MODEL; name one")
        if self.calibrate_machine and self.calibration is not None:
            raise OptionError("`calibration` is another one than --calibrate-machine makes; leave one of them out")
        if self.is_alone and predictor is not None:
            raise OptionError("`predictor` predicts accuracies, which --on this-machine leaves out; leave one out")
        for name, several in (*self.shapes, *self.size):
            if len(several) > 1:
                raise OptionError(f"--shape and --size take one of each here, {name or 'the input'} has {len(several)}")

    def calibrate(self) -> list[Json]:
        """Measure, and say what there is now. Raises RuntimeFailure, CheckpointError: as `calibrate_machine` does."""
        from onnx_ghn.limits import available_cores
        from onnx_ghn.profiling.providers import provider_name
        from onnx_ghn.properties import calibrate_machine

        found = []
        for threads in dict.fromkeys(self.threads) or (len(available_cores()),):
            what = f"calibrating this machine, {threads} thread{'' if threads == 1 else 's'}"
            with bar(what, round(self.seconds or _SECONDS)) as shown:
                calibration = calibrate_machine(
                    provider=provider_name(self.provider),
                    threads=threads,
                    seconds=self.seconds or _SECONDS,
                    anew=self.anew,
                    progress=lambda done, total: shown.show(done, total),
                )
            found.append(calibration.to_dict())
        return found

    @property
    def is_asked(self) -> bool:
        """The options ask for this machine, rather than that there is a calibration of it."""
        return self.is_alone or self.calibrate_machine or bool(self.threads or self.batch or self.shapes or self.size)

    def given_sizes(self, model: str) -> GivenSizes:
        """The shapes and sizes that the options give to inputs and symbols of a model."""
        return {
            "shapes": {name: several[0] for name, several in shapes_by_input(model, self.shapes).items()},
            "sizes": {name: several[0] for name, several in self.size},
        }

    def reports(self, model: str) -> list[MachineReport]:
        """What is predicted at each number of threads: nothing, unless it was asked for or something is calibrated."""
        from onnx_ghn.properties.machine.where_calibrated import is_calibrated

        asked = self.is_asked
        if not asked and not is_calibrated():
            return []
        from onnx_ghn.properties import calibrated_threads, predict_on_machine

        threads = tuple(dict.fromkeys(self.threads)) or tuple(
            [] if self.calibration else calibrated_threads(self.provider)
        )
        if not threads and not asked:
            return []
        given = self.given_sizes(model)
        with spinner(f"reading {model}"):
            return [
                predict_on_machine(
                    model,
                    threads=number,
                    provider=self.provider,
                    batch=self.batch,
                    shapes=given["shapes"],
                    sizes=given["sizes"],
                    calibration=self.calibration,
                )
                for number in threads or (None,)
            ]
