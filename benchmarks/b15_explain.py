"""B15: what explanations cost, and whether maps are where the strokes are.

  evidence  evidence maps of all classes, compared with plain logits of the same engine in float32,
            in processor time for the same images; goal: 0.8 of the rate
  folder    evidence maps of a folder of JPEGs, from files to arrays, compared with predict; goal:
            0.8 of the rate
  rise      1,000 masked images with an engine, compared with single Keras calls; goal: 10 times
  strokes   the fraction of positive evidence on the strokes of the sample data, which the program
            that draws them knows: per method, with random maps and edges beside it
The rates are those of efficientnet-lite0 with random weights at 224x224: medians of interleaved
rounds. Run from the root of the project: python -m benchmarks.b15_explain RUN, where RUN was
trained on sample_data/x_or_o.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import cnnclf
from cnnclf.config import ExplainConfig, HeadConfig
from cnnclf.explainers.explainer_table import EXPLAINERS
from cnnclf.explainers.fills import resize_map
from cnnclf.explainers.map_checks import find_edges
from cnnclf.explainers.network import Network
from cnnclf.explainers.rise import map_rise
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.bundles import save_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.models.backbones import find_backbone
from cnnclf.models.transfer import build_transfer
from sample_data.make_sample_data import draw_stroke_mask

SAMPLES = Path("sample_data/x_or_o")
_CHUNK = 50  # images at once
LABELS = [f"class{number}" for number in range(5)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run on sample_data/x_or_o")
    parser.add_argument("--images", type=int, default=1000, help="for the rates")
    parser.add_argument("--marks", type=int, default=10, help="images per label, from the last on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="openvino", help="of rise and evidence")
    parser.add_argument("--parts", nargs="+", default=["evidence", "folder", "rise", "strokes"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bundle = Path(work) / "bundle"
        if {"evidence", "folder", "rise"} & set(arguments.parts):
            save_backbone(bundle)
        if "evidence" in arguments.parts:
            for engine in dict.fromkeys([arguments.engine, "keras"]):
                measure_evidence(bundle, engine, arguments.images, arguments.rounds)
        if "folder" in arguments.parts:
            measure_folder(bundle, arguments.engine, arguments.images, arguments.rounds)
        if "rise" in arguments.parts:
            measure_rise(bundle, arguments.engine)
    if "strokes" in arguments.parts:
        measure_strokes(arguments.run, arguments.marks)


def save_backbone(bundle: Path) -> None:
    row = find_backbone("efficientnet-lite0")
    model = build_transfer(row, HeadConfig(), height=224, width=224, num_classes=5).whole
    save_bundle(bundle, model, labels=LABELS, input_spec=InputSpec(224, 224), dataset={})


def measure_evidence(bundle: Path, engine: str, count: int, rounds: int) -> None:
    network = Network(Classifier.load(bundle, engine=engine, precision="float32", device="cpu"))
    pixels = np.random.default_rng(0).integers(0, 256, (_CHUNK, 224, 224, 3), np.uint8)
    head = network.find_head()
    classes = np.arange(len(LABELS))

    def find_evidence() -> Any:
        features, logits = head.look(pixels)
        return head.contributions(features, classes), logits

    ways: dict[str, Callable[[], Any]] = {
        "logits": lambda: network.logits(pixels),
        "evidence": find_evidence,
    }
    for way in ways.values():
        way()  # traces the graphs
    ratios = []
    for _ in range(rounds):
        seconds = dict.fromkeys(ways, 0.0)
        for _ in range(-(-count // _CHUNK)):
            for name, way in ways.items():
                seconds[name] += clock(way, time.process_time)
        ratios.append(seconds["logits"] / seconds["evidence"])
    maps, logits = ways["evidence"]()
    sums = maps.sum(axis=(2, 3)) + head.bias
    # random weights give tiny logits, so the largest of them is the only scale there is
    error = float(np.abs(sums - logits).max() / np.abs(logits).max())
    shown = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    print(
        f"evidence with {engine}: {statistics.median(ratios):.2f} of the rate of logits ({shown};"
        f" goal: at least 0.8); largest error {error:.1e}"
    )


def measure_folder(bundle: Path, engine: str, count: int, rounds: int) -> None:
    """Compare `cnnclf.explain`, without checks and figures, with `cnnclf.predict`."""
    folder, rng = bundle.parent / "photos", np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        small.resize((512, 384)).save(folder / f"{number}.jpg")
    shared = {"engine": engine, "precision": "float32", "device": "cpu"}
    drawn = shared | {"checks": False, "limit": count}
    ways: dict[str, Callable[[], Any]] = {
        "predict": lambda: cnnclf.predict(bundle, folder, config=shared),
        "explain": lambda: cnnclf.explain(bundle, folder, config=drawn),
    }
    ratios = []
    for _ in range(rounds):
        seconds = {name: clock(way, time.process_time) for name, way in ways.items()}
        ratios.append(seconds["predict"] / seconds["explain"])
        shown = ", ".join(f"{name} {each:.1f} s" for name, each in seconds.items())
        print(f"{count} files with {engine}, processor time: {shown}; ratio {ratios[-1]:.2f}")
    print(f"folder: {statistics.median(ratios):.2f} of the rate of predict (goal: at least 0.8)")


def measure_rise(bundle: Path, engine: str) -> None:
    network = Network(Classifier.load(bundle, engine=engine))
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    config = ExplainConfig(masks=1000)

    def run() -> None:
        map_rise(network, pixels, classes=[0], config=config)

    map_rise(network, pixels, classes=[0], config=ExplainConfig(masks=100))  # warm
    model, single = network.classifier.model, pixels[None].astype(np.float32)
    model.predict(single, verbose=0)
    for time_of, name in ((time.perf_counter, "wall"), (time.process_time, "processor")):
        one = clock(lambda: [model.predict(single, verbose=0) for _ in range(20)], time_of) / 20
        many = clock(run, time_of)
        print(
            f"rise, {name} time: 1,000 masks {many:.1f} s with {engine}; one by one"
            f" {1000 * one:.1f} s with Keras; ratio {1000 * one / many:.1f} (goal: at least 10)"
        )


def measure_strokes(run: Path, marks: int) -> None:
    network = Network(Classifier.load(run, engine="keras", device="cpu"))
    methods = {row.name: row.load() for row in EXPLAINERS if row.is_map}
    shares: dict[str, list[float]] = {name: [] for name in [*methods, "random", "edges", "area"]}
    rng = np.random.default_rng(0)
    right = 0
    for label in network.labels:
        for index in range(149, 149 - marks, -1):
            pixels = network.classifier.decode(SAMPLES / label / f"{label}{index:03}.jpg")
            target = network.labels.index(label)
            if int(network.logits(pixels[None]).argmax()) != target:
                continue
            right += 1
            height, width, _ = pixels.shape
            mask = draw_stroke_mask(label, index).resize((width, height))
            strokes = np.asarray(mask, np.float64) / 255
            for name, method in methods.items():
                maps = method(network, pixels, classes=[target], config=ExplainConfig())
                shares[name].append(share_of(maps.values[0], strokes))
            shares["random"].append(share_of(rng.random((8, 8)), strokes))
            shares["edges"].append(share_of(find_edges(pixels), strokes))
            shares["area"].append(float(strokes.mean()))
    print(f"fraction of positive evidence on strokes, mean of {right} rightly labeled images")
    for name, values in shares.items():
        print(f"  {name:22} {np.mean(values):.3f}")


def share_of(values: np.ndarray, strokes: np.ndarray) -> float:
    """Return which fraction of the positive part of a map lies on strokes."""
    positive = np.maximum(resize_map(values, strokes.shape[0], width=strokes.shape[1]), 0)
    return float((positive * strokes).sum() / max(float(positive.sum()), 1e-12))


def clock(way: Callable[[], Any], now: Callable[[], float] = time.perf_counter) -> float:
    start = now()
    way()
    return now() - start


if __name__ == "__main__":
    main()
