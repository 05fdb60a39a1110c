"""PyTorch baseline for prediction: a timm model on the CPU, tuned as far as a few lines allow.

channels_last, inference_mode, bfloat16 autocast if the processor supports it, images from a
DataLoader with one worker per core, resized and cropped by Pillow. Imports nothing from cnnclf, so
another interpreter can run it; answers each line on stdin with a line of JSON.
Run as: python benchmarks/torch_predict.py MODEL FOLDER
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

BATCH, SIZE = 32, 224
WORKERS = len(os.sched_getaffinity(0))
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) * 255
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) * 255


class Photos(torch.utils.data.Dataset):  # type: ignore[misc]
    """The JPEGs of a folder, cropped to a square, as bytes."""

    def __init__(self, folder: str) -> None:
        self.files = sorted(Path(folder).rglob("*.jpg"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        image = Image.open(self.files[index]).convert("RGB")
        scale = SIZE / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, upper = (width - SIZE) // 2, (height - SIZE) // 2
        image = image.crop((left, upper, left + SIZE, upper + SIZE))
        return torch.from_numpy(np.asarray(image).copy())  # uint8: a quarter of the size of floats


def main() -> None:
    model = timm.create_model(sys.argv[1], pretrained=False, num_classes=10).eval()
    model = model.to(memory_format=torch.channels_last)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    has_bfloat16 = "avx512_bf16" in flags or "amx_bf16" in flags
    loader = torch.utils.data.DataLoader(Photos(sys.argv[2]), BATCH, num_workers=WORKERS)
    for _ in sys.stdin:
        rows = 0
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16):
            for batch in loader:
                pixels = (batch.permute(0, 3, 1, 2).float() - MEAN) / STD
                logits = model(pixels.contiguous(memory_format=torch.channels_last))
                rows += len(logits.float().softmax(1))
        print(json.dumps({"rows": rows, "torch": torch.__version__, "bfloat16": has_bfloat16}))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
