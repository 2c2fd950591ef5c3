"""What an error says, in one line that does not change from run to run."""

from __future__ import annotations

import re

__all__ = ["short"]

_LONGEST = 180


def short(error: BaseException) -> str:
    """Type and first line of an error, without addresses and temporary folders."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"\x1b\[[0-9;]*m|0x[0-9a-f]+", "", lines[0] if lines else "")
    text = text.rpartition("[ONNXRuntimeError] : ")[2]  # what stands before it are C++ signatures
    text = re.sub(r"(/[\w.+-]+){2,}/", "", text)
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if len(text) <= _LONGEST:
        return text
    # What a compiled library says is often at the end, behind its signatures.
    return f"{text[: _LONGEST // 2].rsplit(' ', 1)[0]} … {text[-_LONGEST // 2 :].split(' ', 1)[-1]}"
