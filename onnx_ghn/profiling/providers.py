"""Execution providers: their names and devices, options, plugin libraries, and NVIDIA's libraries from pip."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from onnx_ghn.errors import OptionError, RuntimeFailure, did_you_mean
from onnx_ghn.installed_runtime import CUDA_PROVIDERS, require_onnxruntime
from onnx_ghn.profiling.settings import Point, Settings

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["CPU", "add_provider", "check_available", "check_options", "named_device", "provider_name", "short_name"]

CPU = "CPUExecutionProvider"
#: Providers that take a number of a device; others have options of their own for it.
_NUMBERED = CUDA_PROVIDERS | {f"{name}ExecutionProvider" for name in ("ROCM", "MIGraphX", "Dml", "CANN")}


def short_name(name: str) -> str:
    """`cuda` of `CUDAExecutionProvider`."""
    return name.lower().removesuffix("executionprovider")


def provider_name(name: str, *, has_libraries: bool = False) -> str:
    """onnxruntime's name of a provider: `cuda` or `CUDAExecutionProvider`, in any case.

    Args:
        has_libraries: libraries may bring others, whose names stay as they are written.

    Raises:
        OptionError: onnxruntime knows none of that name.
    """
    require_onnxruntime()
    import onnxruntime

    known: dict[str, str] = {entry.lower(): entry for entry in onnxruntime.get_all_providers()}
    short = {short_name(entry): full for entry, full in known.items()}
    found = known.get(name.lower()) or short.get(name.lower())
    if found is None and has_libraries:
        return name
    if found is None:
        meant = did_you_mean(name.lower(), short)
        raise OptionError(
            f"`provider` {name!r}: onnxruntime knows {', '.join(sorted(short))}{meant}; a plugin's library is named in "
            "`provider_libraries`"
        )
    return found


def named_device(text: str, settings: Settings) -> tuple[str, int | None]:
    """A provider and the number of its device: `cuda:1`.

    Raises:
        OptionError: a provider that is not known, or takes no number.
    """
    name, colon, number = text.partition(":")
    found = provider_name(name, has_libraries=bool(settings.provider_libraries))
    if not colon:
        return found, None
    if not (number.isascii() and number.isdigit() and len(number) < 5):
        raise OptionError(f"`provider` {text!r}: write the number of a device behind the colon, such as cuda:1")
    if found == CPU or (found not in _NUMBERED and not settings.provider_libraries):
        raise OptionError(
            f"`provider` {text!r}: {name} has no numbered devices; choose by `provider_option`, or by `pin` for cores"
        )
    return found, int(number)


def check_options(settings: Settings, providers: Sequence[str]) -> None:
    """Refuse options of providers that are not measured, and of the CPU's. Raises OptionError."""
    for name, key, _ in settings.provider_option:
        if short_name(name) == short_name(CPU):
            raise OptionError(f"`provider_option` {name}.{key}: the CPU's provider takes no options")
        if short_name(name) not in map(short_name, providers):
            used = ", ".join(map(short_name, providers))
            raise OptionError(f"`provider_option` {name}.{key}: {name} is not measured; `provider` has {used}")


def check_available(provider: str) -> None:
    """Refuse a provider that the installed onnxruntime was built without. Raises RuntimeFailure."""
    import onnxruntime

    available: list[str] = onnxruntime.get_available_providers()
    if provider not in available:
        names = ", ".join(entry.removesuffix("ExecutionProvider") for entry in available)
        raise RuntimeFailure(
            f"provider {provider} is not in this build of onnxruntime {onnxruntime.__version__}, which has "
            f"{names}; install one that has it"
        )


def add_provider(
    options: onnxruntime.SessionOptions, point: Point, settings: Settings, failures: Callable[[str], Any]
) -> list[tuple[str, dict[str, str]]] | None:
    """The providers of a session with their options; None where a plugin's devices were added to `options`.

    Args:
        failures: a context that turns what onnxruntime raises into one line.

    Raises:
        RuntimeFailure: no provider of that name, no device of that number, or a library that is no plugin.
    """
    told = {
        key: value for name, key, value in settings.provider_option if short_name(name) == short_name(point.provider)
    }
    if settings.provider_libraries:
        devices = _plugin_devices(settings, point, failures)
        if devices:
            if point.device is not None and point.device >= len(devices):
                raise RuntimeFailure(
                    f"provider {point.provider} has {len(devices)} devices here, no number {point.device}"
                )
            chosen = [devices[point.device or 0]]
            with failures(f"provider {point.provider} cannot be used"):
                options.add_provider_for_devices(chosen, told)
            return None
    check_available(point.provider)
    if point.device is not None:
        told.setdefault("device_id", str(point.device))
    return [(point.provider, told), *([] if point.provider == CPU else [(CPU, {})])]


def _plugin_devices(settings: Settings, point: Point, failures: Callable[[str], Any]) -> list[Any]:
    """The devices of a provider that libraries bring; they are registered once in a process."""
    import onnxruntime

    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise RuntimeFailure(
            f"onnxruntime {onnxruntime.__version__} takes no libraries of providers; install 1.23 or newer"
        )
    for library in settings.provider_libraries:
        with failures(f"provider library {library} cannot be loaded"):
            _register(os.path.realpath(library))
    every = onnxruntime.get_ep_devices()
    found = [one for one in every if short_name(one.ep_name) == short_name(point.provider)]
    if not found and point.provider not in onnxruntime.get_available_providers():
        names = ", ".join(dict.fromkeys(one.ep_name for one in every))
        raise RuntimeFailure(f"no library brings the provider {point.provider}; with them there are {names}")
    return found


@functools.cache
def _register(path: str) -> None:
    """Give a library to onnxruntime, which refuses a second time."""
    import onnxruntime

    onnxruntime.register_execution_provider_library(os.path.basename(path), path)
