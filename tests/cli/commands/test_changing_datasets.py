"""`cnnclf import` of a dataset: decisions and findings become a version of its manifest."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cnnclf.data.manifest import load_dataset
from tests.conftest import Cli
from tests.quality.drawn import FIRST, PLANTS, DrawnSet, draw_scene

KINDS = ("near-duplicates-across-splits", "dark", "duplicates")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    drawn = DrawnSet(tmp_path / "drawn")
    for number, name in enumerate(KINDS):
        PLANTS[name](drawn)
        new = f"planted{number}.png"
        (drawn.root / "planted.png").rename(drawn.root / new)
        drawn.rows[-1] = drawn.rows[-1].__class__(new, drawn.rows[-1].label, drawn.rows[-1].split)
    return drawn.import_into(tmp_path / "dataset").directory


def decide(path: Path, *rows: tuple[str, str, str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "decision", "label"), *rows])
    return path


def paths_of(dataset: Path) -> set[str]:
    return set(load_dataset(dataset).manifest.paths)


def test_findings_are_chosen_by_check(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    before = paths_of(dataset)
    assert cli("check", dataset, "--out", tmp_path / "report").code == 0
    findings = tmp_path / "report" / "findings.csv"
    unclear = cli("import", dataset, "--apply", findings)
    assert unclear.code == 2
    assert "nothing says which of them to act on" in unclear.stderr
    result = cli("import", dataset, "--apply", findings, "--drop", "dark", "--drop", "duplicates")
    assert result.code == 0, result.stderr
    assert paths_of(dataset) == before - {"planted1.png", "planted2.png"}
    assert f"hint: cnnclf import {dataset} --undo" in result.stderr
    assert json.loads(cli("import", dataset, "--undo", "--json").stdout)["changes"] is None
    assert paths_of(dataset) == before


COPIES = ("duplicates", "duplicates-across-splits", "duplicates-across-classes")


@pytest.mark.parametrize("apply", ["", "findings.csv", "decisions.csv"])
@pytest.mark.parametrize("names", [[FIRST] * 5, ["copy1.png", FIRST, FIRST, "copy2.png"]])
def test_the_first_of_a_group_always_stays(
    cli: Cli, tmp_path: Path, names: list[str], apply: str
) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    for name in sorted({*names} - {FIRST}):
        drawn.add(name, drawn.open(FIRST), "ball")
    dataset = drawn.import_into(tmp_path / "dataset").directory
    # Earlier versions imported each of several rows that name one file.
    manifest = dataset / "manifest.csv"
    lines = manifest.read_text().splitlines()
    header, first, *others = [line for line in lines if not line.startswith("copy")]
    places = [",ball,test,", ",ball,val,", ",ball,train,", ",box,train,", ",ball,train,"]
    rows = [
        first.replace(",ball,train,", place).replace(FIRST, name)
        for name, place in zip(names, places, strict=False)
    ]
    manifest.write_text("\n".join([header, *rows, first, *others, ""]))

    arguments: list[object] = []
    if apply:
        assert cli("check", dataset, "--out", tmp_path / "report").code == 0
        arguments = ["--apply", tmp_path / "report" / apply]
    if apply == "decisions.csv":
        removed = [(name, "remove", "", COPIES[0]) for name in sorted({*names})]
        with (tmp_path / "report" / apply).open("w", newline="") as file:
            csv.writer(file).writerows([("path", "decision", "label", "reason"), *removed[-1:]])
    else:
        arguments += [text for name in COPIES for text in ("--drop", name)]
    result = cli("import", dataset, *arguments)
    assert result.code == 0, result.stderr
    left = load_dataset(dataset).manifest
    assert len(others) < len(left)
    if apply != "decisions.csv":
        assert len(left) == len(others) + 1
        # the first row of the earliest split
        assert (left.paths[0], left.class_indices[0], left.splits[0]) == (names[2], 0, 0)
    assert left.paths[-len(others) :] == [line.partition(",")[0] for line in others]


def test_a_row_that_a_table_repeats_is_one_image(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "drawn/table.csv", tmp_path / "new"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1], f"./{lines[1]}", ""]))
    result = cli("import", table, "--out", out, "--drop", "dark", "--drop", "duplicates")
    assert result.code == 0, result.stderr
    assert paths_of(out) == paths_of(dataset) - {"planted1.png", "planted2.png"}
    assert len(load_dataset(out)) == len(lines) - 1 - 2


def test_copies_go_to_one_split(cli: Cli, dataset: Path) -> None:
    found = json.loads(cli("import", dataset, "--fix-splits", "--json").stdout)
    assert found["counts"] == {"move": {"with its group or copies in train": 1}}
    manifest = load_dataset(dataset).manifest
    assert manifest.splits[manifest.paths.index("planted0.png")] == 0
    assert cli("import", dataset, "--fix-splits").stdout.strip() == "nothing to change"
    assert cli("check", dataset, "--strict").code == 0


def test_an_image_that_is_removed_holds_no_others_together(cli: Cli, tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    drawn.add("bridge.png", drawn.open("ball/020.png"), "ball", split="test")
    drawn.rows = [
        replace(row, group="herd") if row.path in {FIRST, "bridge.png"} else row
        for row in drawn.rows
    ]
    dataset = drawn.import_into(tmp_path / "dataset").directory
    decisions = decide(tmp_path / "decisions.csv", ("bridge.png", "remove", ""))
    assert cli("import", dataset, "--apply", decisions, "--fix-splits").code == 0
    assert "bridge.png" not in paths_of(dataset)
    manifest = load_dataset(dataset).manifest
    assert manifest.splits[manifest.paths.index("ball/020.png")] == 2

    assert cli("import", dataset, "--undo").code == 0
    assert cli("import", dataset, "--fix-splits").code == 0
    manifest = load_dataset(dataset).manifest
    assert manifest.splits[manifest.paths.index("ball/020.png")] == 0


def test_decisions_are_followed(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    decisions = decide(
        tmp_path / "decisions.csv",
        (FIRST, "relabel", "box"),
        ("planted1.png", "remove", ""),
        ("planted2.png", "keep", ""),
    )
    assert cli("import", dataset, "--apply", decisions).code == 0
    manifest = load_dataset(dataset).manifest
    assert manifest.class_indices[manifest.paths.index(FIRST)] == 1
    assert "planted1.png" not in manifest.paths
    assert "planted2.png" in manifest.paths


def test_decisions_that_a_spreadsheet_saved_have_semicolons(
    cli: Cli, dataset: Path, tmp_path: Path
) -> None:
    decisions = tmp_path / "decisions.csv"
    decisions.write_text(f"\ufeffpath;decision;label;reason\r\n{FIRST};remove;;a, b\r\n")
    assert cli("import", dataset, "--apply", decisions).code == 0
    assert FIRST not in load_dataset(dataset).manifest.paths


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(FIRST, "keep", ""), (FIRST, "remove", "")], "kept and removed (line 3)"),
        ([(FIRST, "relabel", "box"), (FIRST, "relabel", "ball")], "relabeled 'ball' (line 3)"),
        ([(FIRST, "relabel", "")], "line 2"),
        ([(FIRST, "burn", "")], "decision 'burn'"),
        ([(FIRST, "relabel", "cow")], "'cow': expected one of ball, box"),
        ([("strange.png", "remove", "")], "is of another dataset: 1 of its 1 images"),
        (
            [(FIRST, "keep", ""), ("strange.png", "remove", "")],
            "which lacks 1 image of its 2, or has other content there: strange.png",
        ),
    ],
)
def test_wrong_decisions_change_nothing(
    cli: Cli, dataset: Path, tmp_path: Path, rows: list[tuple[str, str, str]], said: str
) -> None:
    result = cli("import", dataset, "--apply", decide(tmp_path / "decisions.csv", *rows))
    assert result.code == 3
    assert said in result.stderr
    assert not (dataset / "manifest-2.csv").exists()


def test_findings_of_a_set_with_the_same_names_are_refused(
    cli: Cli, dataset: Path, tmp_path: Path
) -> None:
    other = DrawnSet(tmp_path / "other")
    dark = draw_scene(777, "ball").point(lambda value: round(value * 0.15))
    dark.save(other.root / FIRST)
    other.import_into(tmp_path / "second")
    cli("check", tmp_path / "second", "--out", tmp_path / "report")
    result = cli("import", dataset, "--apply", tmp_path / "report/findings.csv", "--drop", "dark")
    assert result.code == 3
    assert "is of another dataset" in result.stderr


def test_a_source_is_imported_and_changed_at_once(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    result = cli("import", tmp_path / "drawn/table.csv", "--out", out, "--drop", "dark", "--json")
    assert json.loads(result.stdout)["version"]["counts"] == {"remove": {"dark": 1}}
    assert "planted1.png" not in paths_of(out)
    again = cli("import", tmp_path / "drawn/table.csv", "--out", out, "--overwrite")
    assert again.code == 0, again.stderr
    assert "planted1.png" in paths_of(out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "is a dataset already"),
        (["--drop", "blurr"], "did you mean blurred?"),
        (["--undo", "--fix-splits"], "--undo cannot be combined"),
        (["--undo", "--seed", "3"], "--seed is an option for importing"),
        (["--undo", "--out", "x"], "--undo changes a dataset"),
        (["--drop", "dark", "--out", "x"], "which is changed where it is"),
    ],
)
def test_wrong_usage(cli: Cli, dataset: Path, arguments: list[str], said: str) -> None:
    result = cli("import", dataset, *arguments)
    assert result.code == 2
    assert said in result.stderr


def test_a_source_needs_a_place(cli: Cli, tmp_path: Path) -> None:
    DrawnSet(tmp_path / "drawn")
    result = cli("import", tmp_path / "drawn")
    assert result.code == 2
    assert "--out is missing" in result.stderr
    assert cli("import", tmp_path / "drawn", "--undo").code == 2


def test_the_plan_names_errors_until_they_are_fixed(cli: Cli, dataset: Path) -> None:
    said = "cnnclf check found 1 error: near-duplicates-across-splits (1)"
    assert said not in cli("train", dataset, "--dry-run").stdout
    cli("check", dataset)
    assert said in cli("train", dataset, "--dry-run").stdout
    cli("import", dataset, "--fix-splits")
    assert "cnnclf check found" not in cli("train", dataset, "--dry-run").stdout
