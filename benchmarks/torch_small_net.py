"""PyTorch baseline for accuracy per minute: the small network of the CIFAR-10 speed runs on a CPU.

Network and recipe are those of Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024, in
their variant with Muon (Jordan et al., 2024): a whitening convolution, three blocks, convolution
kernels by Muon, everything else by SGD with Nesterov momentum, label smoothing, shifts by
reflection, flips alternating by epoch; channels_last and bfloat16 autocast. The number of steps is
laid from the first ones, so that the whole process takes the minutes. With --epochs, the test
images are measured as in the publication, too: mirrored, and shifted by a pixel.

Imports nothing from cnnclf, so another interpreter can run it. Prints one line of JSON.
Run as: python benchmarks/torch_small_net.py IMAGES.npz MINUTES SEED [--flip] [--epochs 8]
        [--widths 64,256,256]
"""

import argparse
import json
import time
from typing import Any

BEGIN = time.perf_counter()

import numpy as np  # noqa: E402 - the clock starts before all that a user waits for
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812 - the name that PyTorch gives it
from torch import nn  # noqa: E402

WIDTHS = "64,128,128"  # as the preset fast of cnnclf
BATCH = 1024
SMOOTHING = 0.2
SHIFT = 2
MUON_RATE, MUON_MOMENTUM = 0.24, 0.6
OFFSET_RATE, HEAD_RATE, MOMENTUM, DECAY = 0.053, 0.67, 0.85, 2e-6 * BATCH  # for mean losses
MEASURED = 5, 45  # steps after which the rest is laid: soon, and once the pace is steady


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images")
    parser.add_argument("minutes", type=float)
    parser.add_argument("seed", type=int)
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--epochs", type=int, help="instead of as many as fit into the minutes")
    parser.add_argument("--widths", default=WIDTHS)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    sets = read(arguments.images)
    widths = [int(width) for width in arguments.widths.split(",")]
    net = build(sets["train"][0], widths).to(memory_format=torch.channels_last)
    curve = train(net, sets, arguments)
    views = {"views": measure(net, *sets["test"], look=view)} if arguments.epochs else {}
    print(
        json.dumps(
            {
                "accuracy": measure(net, *sets["test"]),
                **views,
                "curve": curve,
                "seconds": time.perf_counter() - BEGIN,
                "parameters": sum(each.numel() for each in net.parameters()),
            }
        )
    )


def read(path: str) -> dict[str, tuple[Any, Any]]:
    """Read the splits, images normalized by the mean and deviation of those for training."""
    content = np.load(path)
    pixels = torch.from_numpy(content["train_images"]).permute(0, 3, 1, 2).float()
    axes = (0, 2, 3)
    mean, deviation = pixels.mean(axes, keepdim=True), pixels.std(axes, keepdim=True)
    sets = {}
    for split in ("train", "val", "test"):
        images = torch.from_numpy(content[f"{split}_images"]).permute(0, 3, 1, 2).float()
        images = ((images - mean) / deviation).contiguous(memory_format=torch.channels_last)
        sets[split] = images, torch.from_numpy(content[f"{split}_labels"]).long()
    return sets


def build(images: Any, widths: list[int]) -> nn.Sequential:
    """Build the network: whitening, three blocks, global max pooling, a dense layer."""
    channels = images.shape[1]
    modules: list[nn.Module] = [whiten(images[:5000]), nn.GELU()]
    channels = 2 * channels * 4
    for width in widths:
        first = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        for each in (first, second):
            nn.init.dirac_(each.weight[: each.weight.shape[1]])  # the rest stays random
        modules += [first, nn.MaxPool2d(2), nn.BatchNorm2d(width, momentum=0.4), nn.GELU()]
        modules += [second, nn.BatchNorm2d(width, momentum=0.4), nn.GELU()]
        channels = width
    for each in modules:
        if isinstance(each, nn.BatchNorm2d):
            each.weight.requires_grad_(requires_grad=False)
    head = nn.Linear(channels, 10, bias=False)
    with torch.no_grad():
        head.weight /= head.weight.std()
    return nn.Sequential(*modules, nn.AdaptiveMaxPool2d(1), nn.Flatten(), head)


def whiten(images: Any) -> nn.Conv2d:
    """Make a fixed convolution from the eigenvectors of 2x2 patches, and their negatives."""
    channels = images.shape[1]
    patches = F.unfold(images, 2).permute(0, 2, 1).reshape(-1, channels * 4)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T.double()))
    scaled = (vectors / (values + 5e-4).sqrt()).T.float().reshape(-1, channels, 2, 2)
    layer = nn.Conv2d(channels, 2 * len(scaled), 2)
    layer.weight.data = torch.cat([scaled, -scaled])
    layer.weight.requires_grad_(requires_grad=False)
    layer.bias.data.zero_()
    return layer


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Steps whose singular values are all about the same, for kernels that keep their norm."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # noqa: ARG002 - as the base class has it
        """Change all kernels."""
        for group in self.param_groups:
            for kernel in group["params"]:
                moment = self.state[kernel].setdefault("moment", torch.zeros_like(kernel))
                moment.mul_(group["momentum"]).add_(kernel.grad)
                ahead = kernel.grad.add(moment, alpha=group["momentum"])
                kernel.mul_(len(kernel) ** 0.5 / kernel.norm())
                kernel.add_(orthogonalize(ahead.flatten(1)).view_as(kernel), alpha=-group["lr"])


def orthogonalize(matrix: Any) -> Any:
    """Make all singular values about 1 (Newton-Schulz, with the published coefficients)."""
    wide = matrix / (matrix.norm() + 1e-7)
    wide = wide.T if len(matrix) > matrix.shape[1] else wide
    for _ in range(3):
        square = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * square + 2.0315 * square @ square) @ wide
    return wide.T if len(matrix) > matrix.shape[1] else wide


def train(net: Any, sets: Any, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Train until the minutes are spent; return seconds and val accuracy after each epoch."""
    images, truth = sets["train"]
    trained = [each for each in net.parameters() if each.requires_grad]
    kernels = [each for each in trained if each.dim() == 4]
    others = [each for each in trained if each.dim() == 1]
    muon = Muon(kernels, {"lr": MUON_RATE, "momentum": MUON_MOMENTUM})
    sgd = torch.optim.SGD(
        [
            {"params": others, "lr": OFFSET_RATE, "weight_decay": DECAY / OFFSET_RATE},
            {"params": [net[-1].weight], "lr": HEAD_RATE, "weight_decay": DECAY / HEAD_RATE},
        ],
        momentum=MOMENTUM,
        nesterov=True,
    )
    rates = [(group, group["lr"]) for each in (muon, sgd) for group in each.param_groups]
    per_epoch = len(images) // BATCH
    total = arguments.epochs * per_epoch if arguments.epochs else 10**6
    step, epoch, curve, since = 0, 0, [], 0.0
    flipped = torch.rand(len(images)) < 0.5
    while step < total:
        net.train()
        order = torch.randperm(len(images))[: per_epoch * BATCH]
        for chosen in order.split(BATCH):
            if step == 1:
                since = time.perf_counter()  # the first step is slower
            if step in MEASURED and epoch == 0 and not arguments.epochs:
                seconds = (time.perf_counter() - since) / (step - 1)
                total = step + count_steps(
                    seconds, arguments.minutes, len(sets["val"][0]), per_epoch
                )
            if step >= total:
                break
            for group, rate in rates:
                group["lr"] = rate * (1 - step / total)
            batch = augment(images[chosen], (flipped[chosen] ^ bool(epoch % 2)) & arguments.flip)
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(batch) / 9
                loss = F.cross_entropy(logits.float(), truth[chosen], label_smoothing=SMOOTHING)
            net.zero_grad(set_to_none=True)
            loss.backward()
            muon.step()
            sgd.step()
            step += 1
        epoch += 1
        curve.append((time.perf_counter() - BEGIN, measure(net, *sets["val"])))
    return curve


def count_steps(seconds: float, minutes: float, val: int, per_epoch: int) -> int:
    """Return how many more steps the minutes allow, with val after each epoch, test at the end."""
    left = minutes * 60 - (time.perf_counter() - BEGIN) - 10_000 / BATCH * seconds / 3
    return int(left / (seconds * (1 + val / BATCH / per_epoch / 3)))


def augment(batch: Any, flipped: Any) -> Any:
    """Shift each image by up to two pixels, filled by reflection, and mirror some."""
    batch = torch.where(flipped[:, None, None, None], batch.flip(-1), batch)
    height, width = batch.shape[-2:]
    padded = F.pad(batch, (SHIFT,) * 4, "reflect")
    out = torch.empty_like(batch, memory_format=torch.channels_last)
    places = torch.randint(0, 2 * SHIFT + 1, (len(batch), 2))
    for top in range(2 * SHIFT + 1):
        for left in range(2 * SHIFT + 1):
            here = (places == torch.tensor([top, left])).all(1)
            out[here] = padded[here, :, top : top + height, left : left + width]
    return out


@torch.no_grad()
def measure(net: Any, images: Any, truth: Any, look: Any = None) -> float:
    """Return the accuracy, of the logits that the network or `look` gives."""
    net.eval()
    look = look or (lambda net, batch: net(batch))
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.cat([look(net, batch).argmax(1) for batch in images.split(BATCH)])
    return float((found == truth).float().mean())


def view(net: Any, batch: Any) -> Any:
    """Return the mean logits of an image and of two shifts by a pixel, each mirrored, too."""
    side = batch.shape[-1]
    padded = F.pad(batch, (1,) * 4, "reflect")
    first, last = padded[..., :side, :side], padded[..., 2 : side + 2, 2 : side + 2]
    both = [net(each).float() + net(each.flip(-1)).float() for each in (batch, first, last)]
    return both[0] / 2 + both[1] / 4 + both[2] / 4


if __name__ == "__main__":
    main()
