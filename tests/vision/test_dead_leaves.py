"""Drawn pictures have what white noise lacks: edges, large areas, and the falling spectrum of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from predict_models import arrays, cnn, tiny_ghn

from onnx_ghn import predict
from onnx_ghn.images.dead_leaves import dead_leaves


def spectral_slope(pictures: np.ndarray) -> float:
    """Exponent of the power spectrum over frequency, averaged over directions; noise has 0, photographs about -2."""
    side = pictures.shape[-1]
    power = np.abs(np.fft.fft2(pictures)) ** 2
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    rings = [(f, power[..., (frequency > f * 0.8) & (frequency < f * 1.2)].mean()) for f in (0.06, 0.12, 0.24, 0.4)]
    return float(np.polyfit(*np.log(rings).T, 1)[0])


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (128, 128)])
def test_spectrum_and_moments(size: tuple[int, int]) -> None:
    pictures = dead_leaves(8, 3, *size, np.random.default_rng(0))
    assert pictures.shape == (8, 3, *size)
    assert pictures.dtype == np.float32
    np.testing.assert_allclose(pictures.mean((0, 2, 3)), 0, atol=1e-5)
    assert pictures.std() == pytest.approx(1, abs=1e-5)
    assert -3 < spectral_slope(pictures) < -1.5
    assert abs(spectral_slope(np.random.default_rng(0).standard_normal((8, 3, *size)))) < 0.2
    channels = np.corrcoef(pictures.transpose(1, 0, 2, 3).reshape(3, -1))
    assert channels.min() > 0.8  # natural images are mostly grey


@pytest.mark.parametrize(("n", "channels", "height", "width"), [(1, 1, 8, 8), (2, 3, 20, 50), (1, 3, 90, 33)])
def test_any_size_and_the_same_seed_gives_the_same(n: int, channels: int, height: int, width: int) -> None:
    one, two, other = (dead_leaves(n, channels, height, width, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.shape == (n, channels, height, width)
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_statistics_differ_from_those_of_noise(tmp_path: Path) -> None:
    found = [arrays_of(tmp_path, calibrate) for calibrate in ("synthetic", "noise", "synthetic")]
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.allclose(found[0], found[1], rtol=0.1)


def arrays_of(folder: Path, calibrate: str) -> np.ndarray:

    predict(cnn(), folder / "o.onnx", ghn=tiny_ghn(), calibrate=calibrate, correct_scales=False, force=True)
    return arrays(onnx.load(folder / "o.onnx"))["bn1.var"]
