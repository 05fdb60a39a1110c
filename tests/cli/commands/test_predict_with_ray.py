"""`cnnclf predict --ray`: what it refuses, and real clusters whose nodes are killed."""

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from cnnclf.hardware import find_nvidia_gpus
from tests.conftest import Cli
from tests.inference.conftest import LABELS, SPEC, add_calibration, build_tiny
from tests.prediction.cluster.ray_nodes import ROOT, RayNodes, find_session, open_nodes

COLORS = {"red": (250, 9, 9), "green": (9, 250, 9), "blue": (9, 9, 250)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cnnclf.inference.bundles import save_bundle

    directory = tmp_path_factory.mktemp("ray") / "bundle"
    save_bundle(directory, build_tiny(), labels=LABELS, input_spec=SPEC, dataset={})
    return directory


def test_what_does_not_go_with_a_cluster_is_refused(
    cli: Cli, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        (["--ray"], "--ray needs --out FILE or --out DIR"),
        (["--ray", "photos"], "expected auto, local or HOST:PORT as --ray, received 'photos'"),
        (["--ray", "--out", "r.csv", "--watch"], "--ray and --watch cannot be combined"),
        (["--ray", "--out", "r.csv", "--copy-to", "d"], "--ray and sorting into folders cannot"),
        (["--ray", "--out", "r.csv", "--parts", "xml"], "expected --parts csv, jsonl or parquet"),
        (["--out", "r.csv", "--parts", "csv"], "--parts needs --ray"),
    ):
        result = cli("predict", bundle, tmp_path, *arguments)
        assert result.code == 2, arguments
        assert message in result.stderr, arguments
        assert "hint: " in result.stderr
    assert not list(tmp_path.iterdir())


def test_rows_that_are_there_are_not_replaced_unasked(
    cli: Cli, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "r.csv").write_text("precious")
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "letter.txt").write_text("precious")
    for out in ("r.csv", "rows"):
        result = cli("predict", bundle, tmp_path, "--ray", "--out", tmp_path / out)
        assert result.code == 2
        assert "exists" in result.stderr
    assert (tmp_path / "r.csv").read_text() == "precious"


def test_ray_missing_is_one_line_that_names_the_extra(
    cli: Cli, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *_: None if name == "ray" else find(name),
    )
    result = cli("predict", bundle, tmp_path, "--ray", "--out", tmp_path / "r.csv")
    assert result.code == 5
    assert "ray is not installed" in result.stderr
    assert "pip install 'cnnclf[ray]'" in result.stderr


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")
def test_an_address_where_nothing_listens_is_reported_at_once(
    cli: Cli, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    result = cli("predict", bundle, tmp_path, "--ray", "127.0.0.1:1", "--out", tmp_path / "r.csv")
    assert result.code == 6
    assert "no Ray cluster answers at 127.0.0.1:1" in result.stderr
    assert not list(tmp_path.glob("r.csv*"))


# --- real clusters

needs_nodes = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray"),
]
FILES = 3000


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many files that are links to a few images, and some that are none."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    folder.mkdir()
    images = []
    for name, color in COLORS.items():
        path = folder.parent / f"{name}.jpg"
        noise = Image.effect_noise((640, 480), 60)
        Image.blend(Image.new("RGB", noise.size, color), noise.convert("RGB"), 0.3).save(path)
        images.append(path)
    for number in range(FILES):
        os.link(images[number % 3], folder / f"{number:05d}-{images[number % 3].stem}.jpg")
    for number in range(0, FILES, 1000):
        (folder / f"{number:05d}-bad.jpg").write_text("a web page, perhaps")
    return folder


@pytest.fixture
def nodes() -> Iterator[RayNodes]:
    with open_nodes() as cluster:
        yield cluster


def start(nodes: RayNodes, bundle: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    command = [sys.executable, "-m", "cnnclf", "predict", bundle, *arguments]
    return subprocess.Popen(
        [str(each) for each in command],
        env=nodes.environment,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=240)
    return process.returncode, stdout, stderr


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 150
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def check_rows(photos: Path, rows: list[dict[str, str]]) -> None:
    """Every file has exactly one row, and the right one."""
    counts = Counter(row["path"] for row in rows)
    assert set(counts) == {str(path) for path in photos.iterdir()}
    assert set(counts.values()) == {1}
    for row in rows:
        expected = Path(row["path"]).stem.partition("-")[2]
        assert (row["label"] or "bad") == expected, row
        assert bool(row["error"]) == (expected == "bad"), row


class TestClusters:
    pytestmark = needs_nodes

    def test_the_work_of_a_node_that_is_killed_is_done_again(
        self, nodes: RayNodes, bundle: Path, photos: Path, tmp_path: Path
    ) -> None:
        nodes.start()
        second = nodes.start()
        out, partial = tmp_path / "rows", tmp_path / "rows.partial"
        arguments = ("--out", out, "--parts", "csv", "--ray", nodes.address)
        process = start(nodes, bundle, photos, *arguments)

        def is_in_the_middle() -> bool:
            works = any("MapWorker" in name for name in find_session(second.pid).values())
            return works and len(list(partial.glob("part-*"))) >= 6

        wait_until(process, is_in_the_middle)
        killed = nodes.kill(second)
        done = len(list(partial.glob("part-*")))
        assert "raylet" in killed
        assert any("MapWorker" in name for name in killed)
        assert done < FILES // 64 - 4
        code, stdout, stderr = finish(process)
        assert code == 7, stderr
        assert not stdout
        assert "2 workers with 1 processor on the cluster" in stderr
        assert "lost the node" in stderr
        assert "3 failed" in stderr
        assert sorted(tmp_path.iterdir()) == [out]
        rows = []
        for part in sorted(out.iterdir()):
            with part.open(newline="") as file:
                rows += list(csv.DictReader(file))
        check_rows(photos, rows)

    def test_a_job_that_is_stopped_continues(
        self, nodes: RayNodes, bundle: Path, photos: Path, tmp_path: Path
    ) -> None:
        nodes.start()
        out, partial = tmp_path / "rows.csv", tmp_path / "rows.csv.partial"
        arguments = (photos, "--out", out, "--ray", nodes.address)
        process = start(nodes, bundle, *arguments)
        wait_until(process, lambda: partial.exists() and partial.stat().st_size > 50_000)
        process.send_signal(signal.SIGTERM)
        code, _, stderr = finish(process)
        assert code == 130, stderr
        assert "the same command with --resume continues" in stderr
        assert partial.exists()
        assert not out.exists()
        code, stdout, stderr = finish(start(nodes, bundle, *arguments, "--resume", "--json"))
        assert code == 7, stderr
        summary = json.loads(stdout)
        assert 0 < summary["earlier"] < summary["files"] == FILES + 3
        with out.open(newline="") as file:
            check_rows(photos, list(csv.DictReader(file)))

    @pytest.mark.skipif(bool(find_nvidia_gpus()), reason="there is a GPU")
    def test_workers_are_given_gpus_which_they_find_or_name(
        self, nodes: RayNodes, bundle: Path, photos: Path, tmp_path: Path
    ) -> None:
        nodes.start(gpus=1)  # Ray is told of one that is not there
        out = tmp_path / "rows.csv"
        arguments = (photos, "--out", out, "--ray", nodes.address)
        code, _, stderr = finish(start(nodes, bundle, *arguments))
        assert code == 6, stderr
        assert "1 worker with 1 processor and a GPU" in stderr
        assert "error: on the node " in stderr
        assert ": --device gpu: no NVIDIA GPU was found" in stderr
        assert "hint: use --device cpu" in stderr
        assert not out.exists()

    def test_without_an_address_it_starts_a_cluster_of_its_own(
        self, bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = ("--sets", "0.9", "--unknown-by", "both", "--views", "mirror")
        bundle = add_calibration(shutil.copytree(bundle, tmp_path / "sure"))
        some = sorted(photos.iterdir())[:200]
        home = tmp_path / "home"
        home.mkdir()
        environment = {name: text for name, text in os.environ.items() if "RAY" not in name}
        nothing = RayNodes(0, tmp_path, environment | {"HOME": str(home)})
        arguments = (
            "-",
            "--out",
            tmp_path / "rows.jsonl",
            "--json",
            "--engine",
            "keras",
            *asked,
            "--ray",
        )
        process = start(nothing, bundle, *arguments)
        stdout, stderr = process.communicate("".join(f"{path}\n" for path in some), timeout=240)
        assert process.returncode == 7, stderr
        assert json.loads(stdout)["files"] == 200
        lines = (tmp_path / "rows.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["path"] for line in lines) == [str(path) for path in some]
        rows = [json.loads(line) for line in lines if "bad" not in line]
        assert {row["nearest"] for row in rows} == set(LABELS)
        assert all(row["set"] and 0 < row["familiar"] <= 1 for row in rows)
        assert not (home / ".ray").exists()  # no key is left there
        # a busy machine may be asked for workers in vain for a while, which cnnclf itself says
        said = stderr.replace(str(tmp_path), "").replace("ray status shows them", "")
        assert "ray" not in said.casefold()
