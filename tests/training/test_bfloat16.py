"""Where a processor computes bfloat16 slowly, who asks for it is told."""

import logging

import pytest
import torch

from onnx_ghn.training import bfloat16
from onnx_ghn.training.bfloat16 import slowdown, warn_where_slower


@pytest.fixture(autouse=True)
def _not_yet_told():
    warn_where_slower.cache_clear()
    yield
    warn_where_slower.cache_clear()


def test_the_slowdown_is_a_ratio_and_threads_stay():
    threads = torch.get_num_threads()
    assert 0.05 < slowdown(torch.device("cpu")) < 5000
    assert torch.get_num_threads() == threads


def test_other_devices_are_not_measured():
    assert slowdown(torch.device("meta")) == 1.0


@pytest.mark.parametrize(("times", "told"), [(1.2, 0), (28.4, 1)])
def test_told_once_where_it_is_slower(times, told, monkeypatch, caplog):
    monkeypatch.setattr(bfloat16, "slowdown", lambda device: times)
    with caplog.at_level(logging.WARNING, "onnx_ghn"):
        for _ in range(3):
            warn_where_slower(torch.device("cpu"))
    assert len(caplog.messages) == told
    assert all("28 times" in message and "without amp" in message for message in caplog.messages)
