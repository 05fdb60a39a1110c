"""B1: wall time of `cnnclf --help`, compared with importing typer and rich.

Both run in new processes, interleaved, so that a busy machine slows them equally; the ratio is that
of the medians. Run from the root of the project: python benchmarks/b1_start.py [--rounds N]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

LIMIT = 2.0

ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("import typer, rich", ("-c", "import typer, rich")),
    ("cnnclf --help", ("-m", "cnnclf", "--help")),
    ("cnnclf --version", ("-m", "cnnclf", "--version")),
    ("cnnclf train --help", ("-m", "cnnclf", "train", "--help")),
    ("completion: tr<TAB>", ("-m", "cnnclf")),
    ("completion: finetune pets --backbone mo<TAB>", ("-m", "cnnclf")),
    ("completion: evaluate ru<TAB>", ("-m", "cnnclf")),
    ("completion: train pets --preset <TAB>", ("-m", "cnnclf")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="runs of each (default 11)")
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name, _ in ROWS}
    for _ in range(rounds + 1):  # the first round warms the disk cache and is dropped
        for name, arguments in ROWS:
            seconds[name].append(time_process(name, arguments))
    base = statistics.median(seconds[ROWS[0][0]][1:])
    print(f"{'':46} {'median s':>9} {'min s':>9} {'ratio':>7}")
    for name, times in seconds.items():
        median = statistics.median(times[1:])
        print(f"{name:46} {median:9.3f} {min(times[1:]):9.3f} {median / base:7.2f}")
    ratio = statistics.median(seconds["cnnclf --help"][1:]) / base
    print(
        f"cnnclf --help: {ratio:.2f}x, limit {LIMIT:.1f}x: {'ok' if ratio <= LIMIT else 'MISSED'}"
    )


def time_process(name: str, arguments: tuple[str, ...]) -> float:
    environment = dict(os.environ)
    if name.startswith("completion"):
        words = f"cnnclf {name.partition(': ')[2].removesuffix('<TAB>')}"
        environment |= {"_CNNCLF_COMPLETE": "complete_bash", "COMP_WORDS": words}
        environment["COMP_CWORD"] = str(words.count(" "))
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, check=False
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
