"""B8: a folder of JPEGs to rows, compared with the limit of the machine, Keras and PyTorch.

2,000 synthetic JPEGs of 512x384, engines warm, models with random weights, everything at 224x224.
  D        Pillow alone: open, convert to RGB, resize to what the model's crop needs
  E        the engine alone, on decoded batches in memory
  limit    1 / (1/D + 1/E): on a CPU, decoding and inference share the cores
  cnnclf   what `cnnclf predict RUN photos --out rows.csv` does, from listing to the last row
  keras    image_dataset_from_directory and model.predict, as in the Keras guides
  plain    the same, compiled with jit_compile=False, which is faster on a CPU
  torch    the same architecture from timm, channels_last, bfloat16 if native, DataLoader
Keras and PyTorch run in separate, warmed-up processes. Runs are interleaved; results are medians.
Run from the root of the project: python -m benchmarks.b8_predict [--torch-python FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.images import draw_jpegs
from cnnclf.hardware import count_usable_cpus
from cnnclf.inference.classifier import Classifier
from cnnclf.prediction.inputs import ImageInputs
from cnnclf.prediction.label_pipeline import PredictOptions
from cnnclf.prediction.predict import predict_images
from cnnclf.prediction.row_file import open_rows
from cnnclf.prediction.rows import RowColumns
from cnnclf.prediction.summary import PredictSummary
from cnnclf.progress import Silent

BATCH = 32
LABELS = tuple(f"class{number}" for number in range(10))
# name: goal against keras, timm's name
MODELS = {"efficientnet-lite0": (4.0, "efficientnet_lite0"), "resnet50": (3.0, "resnet50")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, help="threads that decode")
    parser.add_argument("--peers", nargs="*", default=["keras", "plain", "torch"])
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter with timm")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-predict"
    )
    parser.add_argument("--make", nargs=2, metavar=("MODEL", "DIR"), help=argparse.SUPPRESS)
    parser.add_argument("--keras", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make_bundle(arguments.make[0], Path(arguments.make[1]))
    elif arguments.keras:
        how, bundle, photos = arguments.keras
        serve(keras_loop(Path(bundle), Path(photos), is_plain=how == "plain"))
    else:
        photos = arguments.folder / f"{arguments.count}"
        draw_jpegs(photos, count=arguments.count, height=384, width=512)
        for model in arguments.models:
            measure(model, photos, arguments)


def measure(model: str, photos: Path, arguments: argparse.Namespace) -> None:
    bundle = arguments.folder / model
    if not (bundle / "classifier.json").exists():
        command = [sys.executable, "-m", "benchmarks.b8_predict", "--make", model, str(bundle)]
        subprocess.run(command, check=True)
    # The first load converts and checks the model; the measured one opens the cached result.
    Classifier.load(bundle, engine=arguments.engine, precision=arguments.precision, device="cpu")
    classifier = Classifier.load(
        bundle, engine=arguments.engine, precision=arguments.precision, device="cpu"
    )
    files = sorted(photos.rglob("*.jpg"))
    summaries: list[PredictSummary] = []
    ways: dict[str, Callable[[], object]] = {
        "D": lambda: decode_all(files, classifier),
        "E": lambda: compute_all(len(files), classifier),
        "cnnclf": lambda: summaries.append(predict_all(photos, classifier, arguments.threads)),
    }
    peers = start_peers(model, bundle, photos, arguments)
    ways |= {name: peer.run for name, peer in peers.items()}
    compute_all(10 * BATCH, classifier)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    for peer in peers.values():
        peer.stop()
    rates = {name: len(files) / statistics.median(times) for name, times in seconds.items()}
    rates["limit"] = 1 / (1 / rates["D"] + 1 / rates["E"])
    engine = classifier.engine
    print(
        f"{model}, {engine.name} {engine.precision}, {len(files)} JPEGs, {arguments.rounds} rounds"
    )
    for name in ("D", "E", "limit", "cnnclf", *peers):
        print(f"  {name:8} {rates[name]:8.1f} images/s")
    print(f"  cnnclf / limit  {rates['cnnclf'] / rates['limit']:6.2f}  (goal 0.85)")
    goals = {"keras": MODELS[model][0], "torch": 1.2}
    for name in peers:
        goal = f"  (goal {goals[name]:g})" if name in goals else ""
        print(f"  cnnclf / {name}  {rates['cnnclf'] / rates[name]:6.2f}{goal}")
    print(f"  {summaries[-1].limit}", flush=True)


# --- what is measured


def decode_all(files: Sequence[Path], classifier: Classifier) -> None:
    """Pillow alone on all cores: resize the shorter side to what the crop needs."""
    spec = classifier.input_spec
    side = round(spec.height / spec.crop_fraction)

    def decode(path: Path) -> None:
        image = Image.open(path).convert("RGB")
        width, height = image.size
        scale = side / min(width, height)
        image = image.resize(
            (round(width * scale), round(height * scale)), Image.Resampling.BICUBIC
        )
        np.asarray(image.crop((0, 0, spec.width, spec.height)))

    with ThreadPoolExecutor(count_usable_cpus()) as pool:
        list(pool.map(decode, files, chunksize=8))


def compute_all(count: int, classifier: Classifier) -> None:
    """The engine alone on batches in memory."""
    batch = np.random.default_rng(0).integers(
        0, 256, (BATCH, *classifier.input_spec.shape), dtype=np.uint8
    )
    batches = ((number, batch[: count - number]) for number in range(0, count, BATCH))
    assert sum(len(logits) for _, logits in classifier.stream(batches)) == count


def predict_all(photos: Path, classifier: Classifier, threads: int | None) -> PredictSummary:
    """The work of the command after loading."""
    inputs = ImageInputs([str(photos)])
    columns = RowColumns(3)
    with (
        tempfile.TemporaryDirectory() as work,
        open_rows(Path(work) / "rows.csv", columns) as rows,
    ):
        return predict_images(
            classifier,
            inputs.first(),
            rows=rows,
            options=PredictOptions(top_k=3, batch_size=BATCH, threads=threads),
            progress=Silent(),
            inputs=inputs,
        )


# --- baselines, each in a process that answers every line on stdin with one on stdout


class Peer:
    """A process that runs its work once for each line it receives."""

    def __init__(self, command: Sequence[str], *, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def run(self) -> str:
        """Run the work once; an empty answer means that the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._process.stdout.readline()

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def start_peers(
    model: str, bundle: Path, photos: Path, arguments: argparse.Namespace
) -> dict[str, Peer]:
    """Start the baselines and run each once to warm up; those that cannot run are skipped."""
    here = [sys.executable, "-m", "benchmarks.b8_predict", "--keras"]
    torch = [arguments.torch_python, str(Path(__file__).with_name("torch_predict.py"))]
    commands = {
        "keras": [*here, "keras", str(bundle), str(photos)],
        "plain": [*here, "plain", str(bundle), str(photos)],
        "torch": [*torch, MODELS[model][1], str(photos)],
    }
    peers = {
        name: Peer(commands[name], environment={"TF_CPP_MIN_LOG_LEVEL": "3"})
        for name in arguments.peers
    }
    for name, peer in list(peers.items()):
        answer = peer.run()
        if not answer:
            print(f"  {name} cannot run here")
            del peers[name]
        else:
            print(f"  {name}: {answer.strip()}", flush=True)
    return peers


def serve(work: Callable[[], dict[str, Any]]) -> None:
    for _ in sys.stdin:
        print(json.dumps(work()), flush=True)


def keras_loop(bundle: Path, photos: Path, *, is_plain: bool) -> Callable[[], dict[str, Any]]:
    """As in the Keras guides: a dataset from the folder, and `model.predict` on it."""
    import keras

    model = keras.models.load_model(bundle / "model.keras", compile=False)
    if is_plain:
        model.compile(jit_compile=False)
    height, width = model.input_shape[1:3]

    def work() -> dict[str, Any]:
        dataset = keras.utils.image_dataset_from_directory(
            photos,
            labels=None,
            image_size=(height, width),
            crop_to_aspect_ratio=True,
            batch_size=BATCH,
            shuffle=False,
            verbose=False,
        )
        logits = model.predict(dataset, verbose=0)
        return {"rows": len(logits), "keras": keras.__version__}

    return work


def make_bundle(name: str, directory: Path) -> None:
    import keras

    from cnnclf.config import HeadConfig
    from cnnclf.images.input_spec import InputSpec
    from cnnclf.inference.bundles import save_bundle
    from cnnclf.models.backbones import find_backbone
    from cnnclf.models.transfer import build_transfer

    keras.utils.set_random_seed(0)
    row = find_backbone(name)
    size = row.default_size
    transfer = build_transfer(row, HeadConfig(), height=size, width=size, num_classes=len(LABELS))
    spec = InputSpec(size, size, interpolation="bicubic")
    save_bundle(directory, transfer.whole, labels=LABELS, input_spec=spec, dataset={})


if __name__ == "__main__":
    main()
