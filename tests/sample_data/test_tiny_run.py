"""The finished run in sample_data says today what it said when it was made."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.errors import ExitCode
from cnnclf.inference.classifier import Classifier

SAMPLE_DATA = Path(__file__).parents[2] / "sample_data"
RUN = SAMPLE_DATA / "tiny_run"
IMAGES = SAMPLE_DATA / "x_or_o"


@pytest.fixture(scope="module")
def reference() -> dict[str, list[float]]:
    content: dict[str, list[float]] = json.loads((RUN / "reference_logits.json").read_text())
    return content


def test_it_is_small() -> None:
    files = [path for path in RUN.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files if "engine-cache" not in path.parts)
    assert size < 300_000


def test_logits_are_the_reference_ones_in_any_batch(reference: dict[str, list[float]]) -> None:
    classifier = Classifier.load(RUN)
    pixels = np.stack([classifier.decode(IMAGES / name) for name in reference])
    expected = np.array(list(reference.values()))
    # 2e-3: decoders and processors differ in the last bits of what they compute
    np.testing.assert_allclose(classifier.logits(pixels), expected, atol=2e-3)
    one_by_one = np.concatenate([classifier.logits(pixels[i : i + 1]) for i in range(len(pixels))])
    np.testing.assert_allclose(one_by_one, classifier.logits(pixels), atol=1e-5)


def test_predict_on_the_command_line_gives_the_same_probabilities(
    cli: Callable[..., Any], reference: dict[str, list[float]], tmp_path: Path
) -> None:
    files = [IMAGES / name for name in reference]
    rows_file = tmp_path / "rows.jsonl"
    result = cli("predict", RUN, *files, "--out", rows_file, "--engine", "keras")
    assert result.code == ExitCode.OK, result.stderr
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    assert [Path(row["path"]).name for row in rows] == [path.name for path in files]
    for row, logits in zip(rows, reference.values(), strict=True):
        odds = np.exp(np.array(logits) - max(logits))
        assert row["probability"] == pytest.approx((odds / odds.sum()).max(), abs=2e-3)


def test_evaluate_takes_a_folder_of_class_folders(cli: Callable[..., Any], tmp_path: Path) -> None:
    result = cli("evaluate", RUN, IMAGES, "--out", tmp_path / "report", "--json", "--split", "all")
    assert result.code == ExitCode.OK, result.stderr
    assert (
        json.loads((tmp_path / "report" / "metrics.json").read_text())["metrics"]["accuracy"] > 0.9
    )


def test_runs_show_reads_it(cli: Callable[..., Any]) -> None:
    result = cli("runs", "show", RUN, "--json")
    assert result.code == ExitCode.OK, result.stderr
    assert "finished" in result.stdout
