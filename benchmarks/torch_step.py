"""PyTorch baseline for training: a plain CNN on the CPU, as fast as a few lines make it.

channels_last, fused AdamW, and bfloat16 autocast if that is asked for. Imports nothing from cnnclf,
so another interpreter can run it; answers each line on stdin with the seconds of a step.
Run as: python benchmarks/torch_step.py LAYERS PRECISION BATCH HEIGHT WIDTH CHANNELS STEPS, where
LAYERS is JSON: [["conv", filters, kernel], ["pool", size], ...].
"""

import contextlib
import json
import sys
import time
from typing import Any

import torch
from torch import nn

CLASSES = 10


def main() -> None:
    layers, precision = json.loads(sys.argv[1]), sys.argv[2]
    batch, height, width, channels, steps = map(int, sys.argv[3:8])
    torch.manual_seed(0)
    net = build(layers, channels).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    loss_of = nn.CrossEntropyLoss()
    pixels = torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8)
    pixels = pixels.to(memory_format=torch.channels_last)
    truth = torch.randint(0, CLASSES, (batch,))
    is_reduced = precision == "bfloat16"
    reduced = torch.autocast("cpu", torch.bfloat16) if is_reduced else contextlib.nullcontext()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with reduced:
            loss = loss_of(net(pixels.float() / 127.5 - 1), truth)
        loss.backward()
        optimizer.step()

    for _ in range(3):
        step()
    for _ in sys.stdin:
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        print((time.perf_counter() - begin) / steps, flush=True)


def build(layers: list[list[Any]], channels: int) -> nn.Sequential:
    """Build convolutions with batch normalization and ReLU, and pooling between them."""
    modules: list[nn.Module] = []
    for kind, *numbers in layers:
        if kind == "conv":
            filters, kernel = numbers
            modules += [
                nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(inplace=True),
            ]
            channels = filters
        else:
            modules.append(nn.MaxPool2d(numbers[0]))
    modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1)]
    return nn.Sequential(*modules, nn.Linear(channels, CLASSES))


if __name__ == "__main__":
    main()
