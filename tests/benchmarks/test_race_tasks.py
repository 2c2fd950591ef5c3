"""Metrics against scikit-learn's; augmentation; each small network fits its task."""

from __future__ import annotations

import math

import pytest
import torch
from racing.augmentation import crops_and_flips
from racing.entrants import ENTRANTS, select
from racing.objectives import CLASSES, NEXT, NUMBERS, REGIONS
from racing.tasks import TASKS
from sklearn import metrics
from torch.nn import functional as F


def test_scores_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, classes = torch.randn(50, 4, generator=generator), torch.randint(0, 4, (50,), generator=generator)
    assert CLASSES.score(logits, classes) == pytest.approx(100 * metrics.accuracy_score(classes, logits.argmax(1)))
    numbers, wanted = torch.randn(50, 3, generator=generator), torch.randn(50, 3, generator=generator)
    by_variance = metrics.r2_score(wanted, numbers, multioutput="variance_weighted")
    assert NUMBERS.score(numbers, wanted) == pytest.approx(100 * by_variance, rel=1e-4)
    maps, masks = torch.randn(5, 1, 8, 8, generator=generator), torch.randint(0, 2, (5, 1, 8, 8), generator=generator)
    found = metrics.jaccard_score(masks.flatten(), (maps > 0).flatten())
    assert REGIONS.score(maps, masks.float()) == pytest.approx(100 * found)


def test_information_is_nothing_for_a_guess_and_all_for_certainty() -> None:
    tokens = torch.arange(12).reshape(2, 6) % 5
    assert NEXT.score(torch.zeros(2, 6, 5), tokens) == pytest.approx(0, abs=1e-4)
    assert NEXT.score(100.0 * F.one_hot(tokens, 5), tokens) == pytest.approx(100)
    logits = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    loss = -logits.log_softmax(-1).gather(-1, tokens[..., None]).mean()
    assert NEXT.score(logits, tokens) == pytest.approx(100 - 100 * float(loss) / math.log(5), rel=1e-5)


def test_crops_are_windows_of_the_padded_picture_or_of_its_mirror() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(1, 255, (12, 3, 16, 16), generator=generator, dtype=torch.uint8)
    changed = crops_and_flips(batch, generator)
    assert changed.dtype == torch.uint8
    padded = F.pad(batch, (2, 2, 2, 2))
    mirrored = 0
    for before, after in zip(padded, changed, strict=True):
        windows = [before[:, y : y + 16, x : x + 16] for y in range(5) for x in range(5)]
        plain = any(torch.equal(after, window) for window in windows)
        flipped = any(torch.equal(after, window.flip(2)) for window in windows)
        assert plain != flipped
        mirrored += flipped
    assert 0 < mirrored < 12


@pytest.mark.parametrize("name", [entrant.name for entrant in select(("small",), ())])
def test_a_small_network_answers_in_the_shape_of_its_task(name: str) -> None:
    entrant = ENTRANTS[name]
    task = TASKS[entrant.task]
    torch.manual_seed(0)
    outputs = entrant.build().eval()(task.example())
    wanted = {
        "classes": (1, task.outputs),
        "numbers": (1, task.outputs),
        "next token": (1, *task.shape, task.outputs),
        "regions": (1, task.outputs, *task.shape[1:]),
        "pictures": (1, task.outputs, *task.shape[1:]),
    }
    assert outputs.shape == wanted[task.objective.name]
    assert bool(outputs.isfinite().all())


def test_a_name_means_its_network_before_all_that_contain_it() -> None:
    assert [entrant.name for entrant in select(("small",), ("LeNet",))] == ["LeNet"]  # and not "MobileNetV2"
    assert {entrant.name for entrant in select(("small",), ("resnet-",))} == {
        "ResNet-18, thin", "ResNet-50, thin", "ResNet-1D, small",
    }  # fmt: skip
    assert len(select(("small",), ())) == 24
