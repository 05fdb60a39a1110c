"""PyTorch baseline: a step of the last stages of EfficientNet-Lite0, batch normalization frozen.

Run as: python benchmarks/torch_tail.py BATCH CLASSES PRECISION; prints images per second.
"""

import contextlib
import sys
import time
from typing import Any

import torch
from torch import nn

# repeats, kernel, stride and filters of stages 5 to 7, after 80 channels of 14 x 14
STAGES = (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320)
CHANNELS, SIDE, EXPANSION, FINAL = 80, 14, 6, 1280


class Block(nn.Module):  # type: ignore[misc]
    """An inverted residual block."""

    def __init__(self, channels: int, filters: int, kernel: int, stride: int, first: bool) -> None:
        super().__init__()
        wide, self.first = EXPANSION * channels, first
        self.way = nn.Sequential(
            *convolve(channels, wide, 1),
            nn.ReLU6(inplace=True),
            *convolve(wide, wide, kernel, stride=stride, groups=wide),
            nn.ReLU6(inplace=True),
            *convolve(wide, filters, 1),
        )

    def forward(self, maps: torch.Tensor) -> Any:
        """Add the result to the input, but in the first block of a stage."""
        return self.way(maps) if self.first else maps + self.way(maps)


def convolve(channels: int, filters: int, kernel: int, **more: Any) -> list[nn.Module]:
    """Convolve, and normalize with fixed averages."""
    norm = nn.BatchNorm2d(filters).eval()
    norm.requires_grad_(False)
    padding = kernel // 2
    return [nn.Conv2d(channels, filters, kernel, padding=padding, bias=False, **more), norm]


def main() -> None:
    batch, classes, precision = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    layers: list[nn.Module] = []
    channels = CHANNELS
    for repeats, kernel, stride, filters in STAGES:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            layers.append(Block(channels, filters, kernel, step, repeat == 0))
            channels = filters
    head = [nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(FINAL, classes)]
    net = nn.Sequential(*layers, *convolve(channels, FINAL, 1), *head)
    net = net.to(memory_format=torch.channels_last)
    weights = [each for each in net.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(weights, 1e-3, fused=True)
    maps = torch.rand(batch, CHANNELS, SIDE, SIDE).to(memory_format=torch.channels_last)
    truth = torch.randint(0, classes, (batch,))
    is_reduced = precision == "bfloat16"
    seconds = []
    for _ in range(12):
        began = time.perf_counter()
        reduced = torch.autocast("cpu", torch.bfloat16) if is_reduced else contextlib.nullcontext()
        with reduced:
            logits = net(maps)
        loss = nn.functional.cross_entropy(logits.float(), truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    print(batch / min(seconds))


if __name__ == "__main__":
    main()
