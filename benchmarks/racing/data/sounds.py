"""Spoken digits, as waves and as pictures of their spectra."""

from __future__ import annotations

import io
import math
import wave
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from racing.data.files import archive
from racing.parts import Part, Splits, splits_of

__all__ = ["spoken_digits", "spoken_spectra"]

_RATE = 8000  # samples a second
_WINDOW, _HOP, _BANDS = 256, 100, 64


def spoken_digits(root: Path) -> Splits:
    """Ten words, one channel, the middle 0.8 seconds at 8 kHz: (N, 1, 6400)."""
    length = int(0.8 * _RATE)
    waves, labels = [], []
    with archive(root / "spoken-digits" / "fsdd-small.zip") as file:
        for name in sorted(name for name in file.namelist() if name.endswith(".wav")):
            with wave.open(io.BytesIO(file.read(name))) as sound:
                samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float32)
            scaled = torch.from_numpy(samples / max(1.0, float(samples.std())))
            waves.append(_middle(scaled, length))
            labels.append(int(name.split("/")[1]))
    return splits_of(torch.stack(waves)[:, None], torch.tensor(labels), 250, 350, by_class=True)


def spoken_spectra(root: Path) -> Splits:
    """The same as logarithms of 64 mel bands over 64 moments: (N, 1, 64, 64), of mean 0 and variance 1."""
    found = spoken_digits(root)
    parts = [Part(_spectra(part.inputs[:, 0]), part.targets) for part in (found.train, found.choose, found.judge)]
    mean, std = parts[0].inputs.mean(), parts[0].inputs.std()
    return Splits(*(Part((part.inputs - mean) / std, part.targets) for part in parts))


def _middle(samples: Tensor, length: int) -> Tensor:
    """(length,): cut or padded at both ends alike."""
    missing = length - len(samples)
    return F.pad(samples, (missing // 2, missing - missing // 2))  # a negative padding cuts


def _spectra(waves: Tensor) -> Tensor:
    """(N, T) -> (N, 1, bands, moments)."""
    window = torch.hann_window(_WINDOW)
    power = torch.stft(waves, _WINDOW, _HOP, window=window, return_complex=True).abs() ** 2  # (N, bins, T / hop + 1)
    bands = torch.einsum("bf,nft->nbt", _mel_bands(), power)
    return (bands + 1e-3).log()[:, None, :, :_BANDS]


def _mel_bands() -> Tensor:
    """(bands, bins): triangles that are even on the mel scale, 2595 log10(1 + f / 700)."""
    frequencies = torch.linspace(0, _RATE / 2, _WINDOW // 2 + 1)
    top = 2595 * math.log10(1 + _RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, _BANDS + 2) / 2595) - 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    bin_width = _RATE / _WINDOW  # the lowest triangles lie between two bins: they take what is nearest
    nearest = (1 - (frequencies - middle).abs() / bin_width).clamp(min=0)
    return torch.maximum(torch.minimum(rising, falling).clamp(min=0), nearest)
