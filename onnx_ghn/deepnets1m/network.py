"""A torch network from an architecture, with the published parameter names and shapes.

Facts from facebookresearch/ppuda, ppuda/deepnets1m/net.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.layers import PositionEncoding, Stride, Zero, make_operation, norm_layer, preprocess
from onnx_ghn.deepnets1m.symbolic import parse_operation
from onnx_ghn.errors import GraphError

__all__ = ["Network"]


class Cell(nn.Module):
    """Steps that each sum two operations on earlier states; some states are concatenated."""

    def __init__(
        self,
        architecture: Architecture,
        c_prev_prev: int,
        c_prev: int,
        width: int,
        *,
        reduction: bool,
        reduction_prev: bool,
    ) -> None:
        super().__init__()
        genotype, norm = architecture.genotype, architecture.norm
        self.halve = reduction_prev and not genotype.is_vit
        if architecture.preproc:
            self.preprocess0 = preprocess(c_prev_prev, width, norm, halve=self.halve)
            self.preprocess1 = preprocess(c_prev, width, norm, halve=False)
        else:
            self.preprocess0 = Stride(2) if self.halve else nn.Identity()
            self.preprocess1 = nn.Identity()
        self.drop_path_prob = 0.0  # of leaving a branch out for a sample, in training (`Network.set_drop_path`)
        self.edges = genotype.reduce if reduction else genotype.normal
        self.concat = genotype.reduce_concat if reduction else genotype.normal_concat
        self._ops = nn.ModuleList()
        for operation, state in self.edges:
            kind, kernel = parse_operation(operation)
            stride = 2 if reduction and state < 2 and not genotype.is_vit else 1
            self._ops.append(make_operation(kind, kernel, width, width, stride, norm))

    def forward(self, s0: Tensor | None, s1: Tensor | None) -> Tensor | None:
        """(B, C, H, W) outputs of the two cells before (None: cut off) -> this cell's, None where all is cut off."""
        states = [
            None if s0 is None else self.preprocess0(s0),
            None if s1 is None else self.preprocess1(s1),
        ]
        for step in range(len(self.edges) // 2):
            total: Tensor | None = None
            for i in (2 * step, 2 * step + 1):
                given, operation = states[self.edges[i][1]], self._ops[i]
                if given is None or isinstance(operation, Zero):
                    continue
                value = operation(given)
                if self.training and self.drop_path_prob > 0 and not isinstance(operation, nn.Identity):
                    value = _drop_path(value, self.drop_path_prob)
                total = value if total is None else total + value
            states.append(total)
        kept = [states[i] for i in self.concat]
        present = next((value for value in kept if value is not None), None)
        if present is None:
            return None
        if len(kept) == 1:
            return present
        return torch.cat([present * 0 if value is None else value for value in kept], dim=1)


def _drop_path(x: Tensor, probability: float) -> Tensor:
    """(B, C, H, W) with whole samples zeroed at random, the others scaled up (Larsson et al. 2017)."""
    kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= probability
    return x * kept.to(x.dtype) / (1 - probability)


class _AuxiliaryHead(nn.Module):
    """A classifier of features 8 × 8 (14 × 14 for large images) that training adds to the loss, as published."""

    def __init__(self, channels: int, num_classes: int, norm: str | None, *, small_maps: bool, large: bool) -> None:
        super().__init__()
        side = 2 if small_maps and not large else 5
        layers = [
            nn.ReLU(),
            nn.AvgPool2d(side, stride=2 if large else min(side, 3), count_include_pad=False),  # -> 2 × 2
            nn.Conv2d(channels, 128, 1, bias=False),
            norm_layer(norm, 128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
        ]
        if not large:  # there the published head has none
            layers.append(norm_layer(norm, 768))
        self.features = nn.Sequential(*layers, nn.ReLU())
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        return self.classifier(self.features(x).flatten(1))


class Network(nn.Module):
    """The classifier of an architecture.

    Args:
        num_classes: of the classifier.
        large_images: 224 × 224 inputs instead of 32 × 32.
        auxiliary: a second classifier at two thirds of the depth; in training, `forward` gives both logits.
    """

    def __init__(
        self,
        architecture: Architecture,
        num_classes: int = 10,
        *,
        large_images: bool = False,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.image_size = 224 if large_images else 32
        width = architecture.C
        c_prev = c_prev_prev = self._make_stem(large_images)
        self.cells = nn.ModuleList()
        self._auxiliary_cell = 2 * architecture.n_cells // 3 if auxiliary else None
        reduction_prev = architecture.stem_type == 1
        for number in range(architecture.n_cells):
            reduction = architecture.is_reduction(number)
            if reduction:
                width *= architecture.C_mult
            cell = Cell(architecture, c_prev_prev, c_prev, width, reduction=reduction, reduction_prev=reduction_prev)
            self.cells.append(cell)
            reduction_prev = reduction
            c_prev_prev, c_prev = c_prev, len(cell.concat) * width
            if auxiliary and number == self._auxiliary_cell:
                # A transformer's map is pooled to 8 × 8 whatever stem is drawn with it.
                small = not architecture.genotype.is_vit and (architecture.stem_type == 1 or architecture.stem_pool)
                self.auxiliary_head = _AuxiliaryHead(
                    c_prev, num_classes, architecture.norm, small_maps=small, large=large_images
                )
        if not architecture.glob_avg:
            small = architecture.stem_type == 1 or architecture.stem_pool
            side = (7 if small else 14) if large_images else (4 if small else 8)
            c_prev *= side * side
        layers: list[nn.Module] = []
        for layer in range(architecture.fc_layers):
            last = layer == architecture.fc_layers - 1
            layers.append(nn.Linear(c_prev, num_classes if last else architecture.fc_dim))
            if not last:
                layers += [nn.ReLU(), nn.Dropout(0.5)]
            c_prev = architecture.fc_dim
        self.classifier = nn.Sequential(*layers)

    def _make_stem(self, large: bool) -> int:
        """Register the stem; its output channels."""
        arch = self.architecture
        width, ks, norm = arch.C, arch.ks, arch.norm
        if arch.genotype.is_vit:
            kernel = 16 if large else 3
            self.stem0: nn.Module = nn.Conv2d(3, width, kernel, stride=kernel, padding=int(kernel < 4), bias=False)
            self.pos_enc = PositionEncoding(width, 14 if large else 11)
            return width
        if arch.stem_type == 0:
            out = width * (3 if arch.preproc and not large else 1)
            pool = nn.MaxPool2d(3, stride=2, padding=1) if arch.stem_pool else nn.Identity()
            conv = nn.Conv2d(3, out, ks, stride=4 if large else 1, padding=ks // 2, bias=False)
            self.stem = nn.Sequential(conv, norm_layer(norm, out), pool)
            return out
        stride = 2 if large else 1
        self.stem0 = nn.Sequential(
            nn.Conv2d(3, width // 2, ks, stride=stride, padding=ks // 2, bias=False),
            norm_layer(norm, width // 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, stride=stride, padding=1, bias=False),
            norm_layer(norm, width),
        )
        self.stem1 = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False), norm_layer(norm, width)
        )
        return width

    def set_drop_path(self, probability: float) -> None:
        """Leave each branch of a cell out with this probability, for each sample, in training."""
        for cell in self.cells:
            cell.drop_path_prob = probability

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(B, 3, H, W) images -> (B, num_classes) logits; in training with an auxiliary classifier, both logits."""
        s0: Tensor | None
        s1: Tensor | None
        if self.architecture.genotype.is_vit:
            s0 = s1 = self.pos_enc(self.stem0(images))
        elif self.architecture.stem_type == 0:
            s0 = s1 = self.stem(images)
        else:
            s0 = self.stem0(images)
            s1 = self.stem1(s0)
        second: Tensor | None = None
        for number, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1)
            if number == self._auxiliary_cell and self.training and s1 is not None:
                vit = self.architecture.genotype.is_vit and self.image_size == 32
                second = self.auxiliary_head(F.adaptive_avg_pool2d(s1, 8) if vit else s1)
        if s1 is None:
            raise GraphError("the network has no output: `none` operations cut every path to it")
        if self.architecture.glob_avg:
            s1 = s1.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
        logits: Tensor = self.classifier(s1.flatten(1))
        return logits if second is None else (logits, second)
