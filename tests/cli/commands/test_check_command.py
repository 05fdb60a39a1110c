"""`cnnclf check`: what is shown and written, exit codes, and datasets that are hardly any."""

import base64
import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnclf
from cnnclf.data.manifest import load_dataset
from cnnclf.data.manifest_rows import Row, read_rows, write_rows
from cnnclf.reporting.report_images import make_thumbnail
from tests.conftest import Cli
from tests.quality.drawn import FIRST, PLANTS, DrawnSet, draw_scene


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with a leak, a conflict, a dark image and one that is turned."""
    root = tmp_path_factory.mktemp("leaking")
    drawn = DrawnSet(root / "drawn")
    for number, name in enumerate(
        ("near-duplicates-across-splits", "duplicates-across-classes", "dark")
    ):
        PLANTS[name](drawn)
        new = f"planted{number}.png"
        (drawn.root / "planted.png").rename(drawn.root / new)
        drawn.rows[-1] = drawn.rows[-1].__class__(new, drawn.rows[-1].label, drawn.rows[-1].split)
    return drawn.import_into(root / "dataset").directory


def make_dataset(folder: Path, images: list[tuple[str, Any]]) -> Path:
    """Make a dataset directory without an import, which would refuse it."""
    rows, labels = [], dict.fromkeys(label for label, _ in images)
    for number, (label, image) in enumerate(images):
        image.save(folder / f"{number}.png")
        rows.append(
            Row(f"{number}.png", label, "train", image.width, image.height, "RGB", "0" * 64, "", "")
        )
    description = {
        "format": "cnnclf-dataset",
        "version": 1,
        "labels": list(labels),
        "root": ".",
        "source": {},
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    write_rows(folder / "manifest.csv", rows)
    return folder


def test_findings_are_shown_with_cases_effect_and_action(cli: Cli, leaking: Path) -> None:
    result = cli("check", leaking)
    assert result.code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "error: images almost the same as one in another split (near-duplicates-across-splits: 1)"
    )
    assert lines[1].startswith(f"  planted0.png (ball, test) and {FIRST} (ball, train): ")
    assert lines[2].startswith("  effect: ")
    assert lines[3].endswith(
        f"cnnclf import {leaking} --fix-splits moves all copies of an image to one split"
    )
    assert lines[-2:] == [
        "2 errors, 1 warning, 0 notes in 63 images of 2 classes",
        "wrong labels were not looked for; with --cross-validate they are",
    ]
    positions = [result.stdout.index(word) for word in ("error:", "warning:")]
    assert positions == sorted(positions)


def test_json_has_every_finding(cli: Cli, leaking: Path) -> None:
    found = json.loads(cli("check", leaking, "--json").stdout)
    assert found["severities"] == {"error": 2, "warning": 1, "note": 0}
    assert found["checks"] == {
        "near-duplicates-across-splits": 1,
        "duplicates-across-classes": 1,
        "dark": 1,
    }
    assert found["not_run"] == {
        "torn-groups": "groups",
        "label-suspects": "features or a run",
        "outliers": "features",
    }
    dark = found["findings"][-1]
    assert (dark["path"], dark["label"], dark["split"]) == ("planted2.png", "ball", "train")


def test_findings_are_written_as_a_table(cli: Cli, leaking: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    first = cli("check", leaking, "--out", out)
    assert first.code == 0
    assert f"wrote {out / 'findings.csv'}" in first.stdout.splitlines()
    with (out / "findings.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["check"] for row in rows] == [
        "near-duplicates-across-splits",
        "duplicates-across-classes",
        "dark",
    ]
    assert rows[0]["other_path"] == FIRST
    again = cli("check", leaking, "--out", out)
    assert again.code == 2
    assert "already exists" in again.stderr
    assert cli("check", leaking, "--out", out, "--overwrite").code == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [(["--strict"], 3), (["--strict=error"], 3), (["--strict=warning"], 3), ([], 0)],
)
def test_strict_fails_on_errors(cli: Cli, leaking: Path, options: list[str], code: int) -> None:
    assert cli("check", leaking, *options).code == code


def test_strict_does_not_fail_below_its_level(cli: Cli, tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    PLANTS["dark"](drawn)
    dataset = drawn.import_into(tmp_path / "dataset").directory
    assert cli("check", dataset, "--strict").code == 0
    assert cli("check", dataset, "--strict=warning").code == 3
    wrong = cli("check", dataset, "--strict=info")
    assert wrong.code == 2
    assert "expected one of error, warning" in wrong.stderr


def test_files_that_vanished_are_listed(cli: Cli, leaking: Path, tmp_path: Path) -> None:
    shutil.copytree(leaking.parent, tmp_path / "copy")
    dataset = tmp_path / "copy" / "dataset"
    description = json.loads((dataset / "dataset.json").read_text())
    description["root"] = str(tmp_path / "copy" / "drawn")
    (dataset / "dataset.json").write_text(json.dumps(description))
    (tmp_path / "copy" / "drawn" / FIRST).unlink()
    result = cli("check", dataset)
    assert result.code == 7
    assert f"  {FIRST}: no longer exists" in result.stdout
    assert cli("check", dataset, "--strict").code == 3


def test_one_image(cli: Cli, tmp_path: Path) -> None:
    result = cli("check", make_dataset(tmp_path, [("cat", draw_scene(1, "ball"))]))
    assert result.code == 0, result.stderr
    assert "'cat' has only 1 image" in result.stdout


def test_no_image(cli: Cli, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [("cat", draw_scene(1, "ball"))])
    (dataset / "manifest.csv").write_text(",".join(Row._fields) + "\n")
    result = cli("check", dataset)
    assert result.code == 3
    assert "has no images" in result.stderr


def test_one_class(cli: Cli, tmp_path: Path) -> None:
    images = [("cat", draw_scene(number, "ball")) for number in range(60)]
    found = json.loads(cli("check", make_dataset(tmp_path, images), "--json").stdout)
    assert found["checks"] == {"changed": 1}  # the checksums of this manifest are made up
    assert "imbalance" in found["not_run"]


def test_few_images_are_not_searched_for_wrong_labels_and_it_says_so(
    cli: Cli, tmp_path: Path
) -> None:
    images = [("cat" if number % 2 else "dog", draw_scene(number, "ball")) for number in range(8)]
    result = cli("check", make_dataset(tmp_path, images))
    assert result.stdout.splitlines()[-1] == (
        "wrong labels were not looked for; with --cross-validate they are"
    )
    (tmp_path / "one").mkdir()
    one = cli("check", make_dataset(tmp_path / "one", images[:1]))
    assert "not looked for" not in one.stdout
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    gone = cli("check", tmp_path)
    assert "no longer exists" in gone.stdout
    assert "not looked for" not in gone.stdout  # without images, no option would look for them


def test_identical_images(cli: Cli, tmp_path: Path) -> None:
    images = [("cat" if number % 2 else "dog", draw_scene(1, "ball")) for number in range(40)]
    found = json.loads(cli("check", make_dataset(tmp_path, images), "--json").stdout)
    assert found["checks"]["duplicates-across-classes"] == 1
    copies = [each for each in found["findings"] if each["check"] == "duplicates"]
    assert len(copies) == 1  # a property of the dataset
    assert copies[0]["severity"] == "note"
    assert "38 images of 40 (95 %)" in copies[0]["message"]


@pytest.mark.slow
def test_ten_thousand_classes(cli: Cli, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 24, 24, 3), dtype=np.uint8)
    images = [(f"class {number}", Image.fromarray(each)) for number, each in enumerate(noise)]
    dataset = make_dataset(tmp_path, images)
    rows = list(read_rows(dataset / "manifest.csv"))
    more = [rows[number % 200]._replace(label=f"class {number}") for number in range(10_000)]
    write_rows(dataset / "manifest.csv", more)
    description = json.loads((dataset / "dataset.json").read_text())
    description["labels"] = [row.label for row in more]
    (dataset / "dataset.json").write_text(json.dumps(description))
    result = cli("check", dataset)
    assert result.code == 0, result.stderr
    assert "classes with very few images, or none in a split (small-classes: 10,000)" in (
        result.stdout
    )
    assert "images with two labels (duplicates-across-classes: 200)" in result.stdout


def test_the_python_interface(leaking: Path, tmp_path: Path) -> None:
    report = cnnclf.check(leaking, {"mirrored": True}, out=tmp_path / "report")
    assert [finding.check for finding in report.findings][:1] == ["near-duplicates-across-splits"]
    assert (tmp_path / "report" / "findings.csv").exists()
    assert cnnclf.check(cnnclf.load_dataset(leaking)).images == 63


def read_thumbnails(page: str) -> list[Image.Image]:
    found = re.findall(r"data:image/\w+;base64,([^\"]+)", page)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]


def test_images_of_12_bits_are_examined_and_shown_as_training_sees_them(
    cli: Cli, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for number in range(30):
        folder = tmp_path / "source" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        values = rng.integers(0, 4096, (64, 64)).astype(np.uint16)
        Image.fromarray(values).save(folder / f"{number}.png")
    dataset = tmp_path / "dataset"
    assert cli("import", tmp_path / "source", "--out", dataset).code == 0
    result = cli("check", dataset, "--out", tmp_path / "report")
    assert result.stdout.startswith("no findings in 30 images")
    data = load_dataset(dataset)
    shown = read_thumbnails(make_thumbnail(data, data.manifest.paths[0]))
    shown += read_thumbnails((tmp_path / "report" / "check.html").read_text())
    assert len(shown) == 3
    assert all(np.asarray(image).mean() > 100 for image in shown)


@pytest.mark.parametrize("count", [6, 30])
def test_nobody_is_to_remove_most_images(cli: Cli, tmp_path: Path, count: int) -> None:
    images = [("ab"[number % 2], Image.new("RGB", (40, 40), (number, 0, 0))) for number in range(6)]
    dataset = make_dataset(tmp_path, images * (count // 6))
    result = cli("check", dataset, "--out", tmp_path / "report")
    advice = "remove none, as they are most images"
    assert f"action: {advice}" in result.stdout
    assert f"Action: {advice}" in (tmp_path / "report" / "check.html").read_text()
    assert "action: remove them" not in result.stdout


def test_what_the_import_lost_is_named_as_what_it_is(cli: Cli, tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    PLANTS["unreadable"](drawn)
    PLANTS["unusable-rows"](drawn)
    first = drawn.rows[0]
    drawn.rows += [replace(first, path="gone.png"), replace(first, label="box")]
    dataset = drawn.import_into(tmp_path / "dataset").directory
    result = cli("check", dataset, "--json", "--out", tmp_path / "report")
    assert result.code == 7
    report = json.loads(result.stdout[result.stdout.index("{") :])
    lost = [
        (each["check"], each["path"], re.sub("^lines? [0-9 and]+: ", "", each["message"]))
        for each in report["findings"]
        if each["severity"] == "error"
    ]
    skipped = "(skipped by the import)"
    assert [found for found in lost if found[0] != "unreadable"] == [
        ("missing", "gone.png", f"no such file {skipped}"),
        ("unusable-rows", "planted.png", f"has no label {skipped}"),
        ("unusable-rows", FIRST, f"give the file two labels, the first counts {skipped}"),
    ]
    assert [found[:2] for found in lost if found[0] == "unreadable"] == [
        ("unreadable", "planted.jpg")
    ]
    assert report["failed"] == 4
    plan = cli("train", dataset, "--dry-run").stdout
    assert "missing (1), unreadable (1), unusable-rows (2)" in " ".join(plan.split())
    findings = tmp_path / "report" / "findings.csv"
    assert cli("import", dataset, "--apply", findings, "--drop", "unreadable").code == 0
