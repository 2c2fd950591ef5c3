"""Muon: what its updates are, beside the singular value decomposition, a step by step iteration, and torch's."""

import math

import pytest
import torch

from onnx_ghn.training.muon import Muon, orthogonalised


def _matrix(rows: int, columns: int, smallest: float) -> torch.Tensor:
    """Singular values from 1 down to `smallest`, evenly by their logarithms."""
    torch.manual_seed(rows)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, dtype=torch.float64), full_matrices=False)
    values = torch.logspace(0, math.log10(smallest), min(rows, columns), dtype=torch.float64)
    return u @ torch.diag(values) @ v


@pytest.mark.parametrize(("rows", "columns"), [(48, 12), (12, 48), (16, 16), (1, 8)])
@pytest.mark.parametrize("smallest", [0.3, 1e-2, 1e-6])
def test_as_the_iteration_on_the_whole_matrix(rows, columns, smallest):
    given = _matrix(rows, columns, smallest)
    expected = given.T if rows > columns else given
    expected = expected / expected.norm()
    for _ in range(5):
        gram = expected @ expected.T
        expected = 3.4445 * expected - 4.775 * gram @ expected + 2.0315 * gram @ gram @ expected
    expected = expected.T if rows > columns else expected
    torch.testing.assert_close(orthogonalised(given).double(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("rows", "columns"), [(48, 12), (12, 48)])
def test_directions_stay_and_singular_values_become_about_one(rows, columns):
    given = _matrix(rows, columns, 0.1)
    u, _, v = torch.linalg.svd(given, full_matrices=False)
    values = u.T @ orthogonalised(given).double() @ v.T
    assert torch.all((torch.diag(values) > 0.6) & (torch.diag(values) < 1.3)), torch.diag(values)
    assert (values - torch.diag(torch.diag(values))).abs().max() < 1e-4


def test_zeros_stay_zeros():
    assert torch.equal(orthogonalised(torch.zeros(4, 6)), torch.zeros(4, 6))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_steps_are_those_of_torch():
    """Up to bfloat16, in which torch's orthogonalises: its numbers have eight bits."""
    torch.manual_seed(0)
    starts = [torch.randn(40, 12), torch.randn(12, 40)]
    gradients = [[torch.randn_like(start) for start in starts] for _ in range(3)]
    ends = []
    for make in (
        lambda parameters: Muon(parameters, 0.1, 0.02),
        lambda parameters: torch.optim.Muon(parameters, 0.1, 0.02, adjust_lr_fn="match_rms_adamw"),
    ):
        parameters = [torch.nn.Parameter(start.clone()) for start in starts]
        optimizer = make(parameters)
        for step in gradients:
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = gradient
            optimizer.step()
        ends.append((parameters, [optimizer.state[p]["momentum_buffer"] for p in parameters]))
    (ours, our_means), (torchs, torch_means) = ends
    for start, one, other in zip(starts, ours, torchs, strict=True):
        moved = (other - start).abs().mean()
        assert moved > 0.02
        assert (one - other).abs().mean() < 0.02 * moved
    torch.testing.assert_close(our_means, torch_means, rtol=0, atol=0)
