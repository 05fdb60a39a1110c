"""B11: two workers of a Ray cluster compared with one, each on a node with one core.

Synthetic JPEGs of 512x384, a warm engine, the default backbone with random weights. Each node, with
its raylet and its worker, is pinned to one core; the driver may run on any. The variants are
interleaved, each time with a new cluster.
  whole    from before the driver connects to the last row
  steady   from the first chunk of the last worker to start, until the last row
  shards   the same work without Ray: one process per core, from their first row to the last
Processor time covers the steady part. Run from the root of the project:
python -m benchmarks.b11_ray [--count N] [--rounds N]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.images import draw_jpegs
from cnnclf.config import PredictConfig
from cnnclf.inference.bundles import read_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.prediction.cluster.chunks import choose_chunk_size, cut_chunks
from cnnclf.prediction.cluster.connecting import connect
from cnnclf.prediction.cluster.ray_data import ChunkStream, Pool
from cnnclf.prediction.cluster.worker import WorkOrder
from cnnclf.prediction.inputs import ImageInputs
from cnnclf.prediction.label_pipeline import PredictOptions, iter_batches
from cnnclf.prediction.row_file import open_rows
from cnnclf.prediction.rows import RowColumns
from cnnclf.prediction.sharding import Shard
from tests.prediction.cluster.ray_nodes import find_session, open_nodes

GOAL = 1.6
COLUMNS = RowColumns(3)
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-predict"
    )
    parser.add_argument("--drive", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--shard", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        address, workers, bundle, photos = arguments.drive
        drive(address, int(workers), Path(bundle), Path(photos))
    elif arguments.shard:
        index, count, bundle, photos = arguments.shard
        work_alone(Shard(int(index), int(count)), Path(bundle), Path(photos))
    else:
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    photos = arguments.folder / f"{arguments.count}"
    draw_jpegs(photos, count=arguments.count, height=384, width=512)
    bundle = arguments.folder / arguments.model
    if not (bundle / "classifier.json").exists():
        make = ["-m", "benchmarks.b8_predict", "--make", arguments.model, str(bundle)]
        subprocess.run([sys.executable, *make], check=True)
    Classifier.load(bundle, engine="auto", device="cpu", threads=1)  # converts and checks it
    cores = sorted(os.sched_getaffinity(0))[:2]
    runs: dict[tuple[str, int], list[dict[str, float]]] = {}
    spent: list[Counter[str]] = []
    for number in range(arguments.rounds):
        for workers in (1, 2):
            result, processor_s = run_cluster(cores[:workers], bundle, photos)
            runs.setdefault(("ray", workers), []).append(result)
            if workers == 2:
                spent.append(processor_s)
            runs.setdefault(("shards", workers), []).append(
                run_shards(cores[:workers], bundle, photos)
            )
        print(f"round {number + 1}: {json.dumps([each[-1] for each in runs.values()])}", flush=True)
    report(arguments, runs, spent)


def report(
    arguments: argparse.Namespace,
    runs: dict[tuple[str, int], list[dict[str, float]]],
    spent: Sequence[Counter[str]],
) -> None:
    def rate(way: str, workers: int, part: str) -> float:
        return statistics.median(run[part] for run in runs[way, workers])

    print(f"{arguments.model}, {arguments.count} JPEGs, medians of {arguments.rounds}")
    print(f"{'images/s':16} {'one':>8} {'two':>8} {'ratio':>7}")
    for way, part in (("ray", "steady"), ("ray", "whole"), ("shards", "steady")):
        one, two = rate(way, 1, part), rate(way, 2, part)
        goal = f"  (goal {GOAL})" if (way, part) == ("ray", "steady") else ""
        print(f"{way + ' ' + part:16} {one:8.1f} {two:8.1f} {two / one:7.2f}{goal}")
    total = sum(spent, Counter[str]())
    whole_s = total.pop("cores")
    print("processor time in the steady part with two workers, as a fraction of both cores:")
    for name, seconds in total.most_common():
        if seconds >= 0.002 * whole_s:
            print(f"  {name:24} {seconds / whole_s:6.1%}")
    print(f"  {'idle and others':24} {1 - sum(total.values()) / whole_s:6.1%}")


# --- a cluster


def run_cluster(
    cores: Sequence[int], bundle: Path, photos: Path
) -> tuple[dict[str, float], Counter[str]]:
    """Start nodes and a driver; return its rates, and processor seconds by kind of process."""
    with open_nodes() as nodes:
        for core in cores:
            nodes.start(core=core)
        driver = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.b11_ray", "--drive"),
                *(nodes.address, str(len(cores)), str(bundle), str(photos)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=nodes.environment,
            start_new_session=True,
        )
        sessions = [driver.pid, *(node.pid for node in nodes.nodes)]
        assert driver.stdout is not None
        assert driver.stdout.readline().strip() == "steady"
        began, before = time.perf_counter(), read_processor_s(sessions)
        result: dict[str, float] = json.loads(driver.stdout.readline())
        seconds, after = time.perf_counter() - began, read_processor_s(sessions)
        driver.wait()
    after.subtract(before)
    after["cores"] = seconds * len(cores)  # type: ignore[assignment]
    return result, after


def drive(address: str, workers: int, bundle: Path, photos: Path) -> None:
    """Run what the command runs; report when all workers are busy and when the last row arrives."""
    told = sys.stdout
    began = time.perf_counter()
    model = read_bundle(bundle)
    order = WorkOrder(
        bundle.absolute(),
        model.content["sha256"],
        PredictConfig(device="cpu", threads=1),
    )
    chunks = cut_chunks(ImageInputs([str(photos)]).first(), choose_chunk_size(1))
    expected = sum(1 for _ in photos.rglob("*.jpg"))
    rows_before, seen, steady = 0, set[str](), 0.0
    with (
        tempfile.TemporaryDirectory() as work,
        connect(address),
        open_rows(Path(work) / "rows.csv", COLUMNS) as rows,
    ):
        count = rows.so_far.summary
        for result in ChunkStream(chunks, order, pool=Pool(workers, 1)).results():
            assert result.problem is None, result.problem
            for prediction in result.predictions:
                rows.write(prediction)
                count.add(prediction)
            rows.flush()
            seen.add(result.worker)
            now = time.perf_counter()
            if len(seen) == workers and not steady:
                steady, rows_before = now, count.files
                print("steady", file=told, flush=True)
            if count.files == expected:  # the workers still run and can report their time
                whole, part = expected / (now - began), (expected - rows_before) / (now - steady)
                print(json.dumps({"whole": whole, "steady": part}), file=told, flush=True)
                time.sleep(1)


def read_processor_s(sessions: Sequence[int]) -> Counter[str]:
    """Add up the processor seconds of all processes of some sessions, by kind."""
    spent: Counter[str] = Counter()
    for session in sessions:
        for number, name in find_session(session).items():
            try:
                fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            kind = "driver" if session == sessions[0] else name_kind(name)
            spent[kind] += (int(fields[11]) + int(fields[12])) / TICKS_PER_S  # type: ignore[assignment]
    return spent


def name_kind(name: str) -> str:
    kinds = {
        "ray::MapWorker": "workers",
        "raylet": "raylets",
        "gcs_server": "gcs_server",
        "ray::ChunkQueue": "desk",
        "ray::ReadChunk": "numbers of chunks",
        "ray::": "helpers of Ray Data",
    }
    return next((kind for start, kind in kinds.items() if name.startswith(start)), "other of Ray")


# --- without Ray


def run_shards(cores: Sequence[int], bundle: Path, photos: Path) -> dict[str, float]:
    """Run one shard per core; rates add up."""
    processes = []
    for index, core in enumerate(cores, 1):
        process = subprocess.Popen(
            [
                *("taskset", "-c", str(core), sys.executable, "-m", "benchmarks.b11_ray"),
                *("--shard", str(index), str(len(cores)), str(bundle), str(photos)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
    return {"steady": sum(float(process.communicate()[0]) for process in processes)}


def work_alone(shard: Shard, bundle: Path, photos: Path) -> None:
    classifier = Classifier.load(bundle, engine="auto", device="cpu", threads=1)
    found = ImageInputs([str(photos)], shard=shard).find()
    moments = list(time_batches(iter_batches(classifier, found, options=PredictOptions(threads=1))))
    (first, skipped), (last, _) = moments[0], moments[-1]
    print((sum(count for _, count in moments) - skipped) / (last - first))


def time_batches(batches: Iterable[Sequence[object]]) -> Iterator[tuple[float, int]]:
    for batch in batches:
        yield time.perf_counter(), len(batch)


if __name__ == "__main__":
    main()
