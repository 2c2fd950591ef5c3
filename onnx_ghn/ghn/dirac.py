"""The identity part of decoded weights: what lets the layers of any network pass features on before they learn more."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from onnx_ghn.ghn.sizes import DIRAC_SHIFT, n_dirac_shifts

__all__ = ["DiracHead"]


class DiracHead(nn.Module):
    """Multiples of identity matrices, decoded from the embedding of a weight's node.

    A weight out × in × kh × kw becomes W + sum over s of a_s I_s, where I_s[o, i] is 1 at the kernel's centre where
    i = o + 16 s modulo max_shape's inputs. I_0 passes each channel on; the others do the same for the second and later
    parts of concatenated inputs. Grouped convolutions, depthwise ones among them, have one more multiple: of 1 where
    i = o modulo the inputs of a group, which passes each channel of the group on.
    With a_0 = 1 and small W every network starts near the identity between its first convolution and its classifier, so
    that channels mean the same in all layers of all architectures: a GHN then learns several times faster
    (training/README.md has the comparison). After DiracNets (Zagoruyko and Komodakis 2017, eq. 2), where a is a
    parameter of each layer.

    Args:
        hid: features of a node embedding.
        max_in: the decoder's largest number of inputs.
    """

    def __init__(self, hid: int, max_in: int) -> None:
        super().__init__()
        self.max_in = max_in
        self.n_shifts = n_dirac_shifts(max_in)
        self.scale = nn.Linear(hid, self.n_shifts + 1)
        nn.init.zeros_(self.scale.weight)
        with torch.no_grad():
            self.scale.bias.copy_(torch.tensor([1.0, *[0.0] * (self.n_shifts - 1), 1.0]))

    def forward(self, x: Tensor, out: int, in_: int, repeats: Sequence[float], *, grouped: bool = False) -> Tensor:
        """What to add at the centre of each kernel.

        Args:
            x: (n, hid) embeddings.
            out, in_: decoded channels.
            repeats: how often each target repeats the decoded inputs; the multiples are divided by it, so that the
                sum over equal copies is the copy.
            grouped: whether the inputs are those of one of several groups.

        Returns:
            (n, out, in_).
        """
        a: Tensor = self.scale(x) / torch.tensor(repeats, device=x.device, dtype=x.dtype)[:, None]  # (n, shifts + 1)
        rows, columns = torch.arange(out, device=x.device)[:, None], torch.arange(in_, device=x.device)
        if grouped or in_ == 1:
            return a[:, -1, None, None] * ((columns - rows) % in_ == 0)
        distance = (columns - rows) % self.max_in  # (out, in_)
        shifts = torch.arange(self.n_shifts, device=x.device) * DIRAC_SHIFT
        ones = (distance == shifts[:, None, None]).to(x.dtype)  # (shifts, out, in_)
        return torch.einsum("ns,soi->noi", a[:, :-1], ones)
