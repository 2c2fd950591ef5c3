"""Which precisions of a model are compared, as `onnx-ghn profile` asks for it."""

from __future__ import annotations

import dataclasses

from onnx_ghn.errors import OptionError
from onnx_ghn.profiling.precision_names import FULL, PRECISIONS
from onnx_ghn.settings import Settings, setting

__all__ = ["Precisions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precisions(Settings):
    """Which precisions are compared, and on what."""

    precision: tuple[str, ...] = setting(
        (),
        "Convert to these precisions and compare them: fp32, fp16, fp16-common, int8, int8-dynamic.",
        form="words",
        metavar="NAME,…",
    )
    data: str | None = setting(
        None,
        "Images by class (a folder or zip archive, or cifar10 in ./data) to measure the accuracy of each precision on, "
        "and to calibrate int8.",
        metavar="DATA",
    )
    n_images: int | None = setting(None, "Number of images of --data to judge on, instead of all.", least=1)
    converted: str | None = setting(None, "Folder to keep the converted models in.", metavar="FOLDER")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.precision:
            if name not in PRECISIONS:
                raise OptionError(f"`precision` {name!r}: choose of {', '.join(PRECISIONS)}")
            if self.precision.count(name) > 1:
                raise OptionError(f"`precision` {name}: is there twice; name it once")
        if not self.precision:
            names = ("data", "n_images", "converted")
            given = next((name for name in names if getattr(self, name) is not None), None)
            if given is not None:
                raise OptionError(f"`{given}`: of precisions that are compared; name them in `precision`")
        if self.converted is not None and self.precision == (FULL,):
            raise OptionError(f"`converted`: {FULL} is the file as it is, so that nothing is kept; leave it out")
        if self.n_images is not None and self.data is None:
            raise OptionError("`n_images`: there are no images without `data`")
