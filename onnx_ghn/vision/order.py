"""The images of each batch, as a function of the seed and the step alone, so that any step can be repeated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import CheckpointError, OptionError
from onnx_ghn.vision.seeds import ORDER, rng_for

__all__ = ["BatchOrder"]


@dataclasses.dataclass
class BatchOrder:
    """Shuffled batches, epoch after epoch, divided among processes.

    Together, the processes see the batches that one process would see with `world` times the batch size. Rank r takes
    the images r, r + world, r + 2 world, … of each.
    """

    count: int  # number of images
    batch_size: int  # images of one process
    seed: int
    rank: int = 0
    world: int = 1
    drop_last: bool = False  # drop the last batch of an epoch where it is smaller
    step: int = 0  # the next batch, counted from the start of the first epoch

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.seed < 0 or not 0 <= self.rank < self.world:
            raise OptionError(
                f"batches of {self.batch_size} with seed {self.seed} for process {self.rank} of {self.world}: "
                "`batch_size` begins at 1, `seed` and `rank` at 0"
            )
        if self.steps_per_epoch < 1:
            raise OptionError(
                f"{self.count} images give no batch of {self.batch_size} for each of {self.world} processes; choose a "
                "smaller `batch_size`"
            )
        self._epoch_order: tuple[int, npt.NDArray[np.int64]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        together = self.batch_size * self.world
        return self.count // together if self.drop_last else -(-self.count // together)

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to."""
        return self.step // self.steps_per_epoch

    def together(self, step: int) -> npt.NDArray[np.int64]:
        """The images of a step in all processes. The last batch of an epoch is filled up to the same size for each."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if self._epoch_order is None or self._epoch_order[0] != epoch:
            self._epoch_order = (epoch, rng_for(self.seed, ORDER, epoch).permutation(self.count))
        order = self._epoch_order[1]
        size = self.batch_size * self.world
        chosen = order[within * size : (within + 1) * size]
        lacking = -len(chosen) % self.world
        return np.concatenate([chosen, np.resize(order, lacking)]) if lacking else chosen

    def mine(self, step: int) -> npt.NDArray[np.int64]:
        """The images of a step in this process."""
        return self.together(step)[self.rank :: self.world]

    def state_dict(self) -> dict[str, int]:
        """All that the next batches depend on, as plain numbers."""
        return {name: getattr(self, name) for name in ("step", "seed", "count", "batch_size", "world", "drop_last")}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue where a saved order was.

        Raises:
            CheckpointError: it was an order of other images, or with another seed, batch size or number of processes.
        """
        for key, value in self.state_dict().items():
            if key not in state:
                raise CheckpointError(f"order of batches: no {key!r} in the checkpoint; start again without it")
            if key != "step" and state[key] != value:
                raise CheckpointError(f"order of batches: {key} was {state[key]}, is {value} now; resume with the same")
        step = state["step"]
        if not isinstance(step, int) or step < 0:
            raise CheckpointError(f"order of batches: step {step!r} in the checkpoint; start again without it")
        self.step = step
