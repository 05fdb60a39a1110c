"""From a tuning directory to its page: what `cnnclf report TUNING` does."""

import shlex
from base64 import b64encode
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cnnclf.bounded import describe_fault
from cnnclf.errors import RunError
from cnnclf.files import read_json, write_text_atomic
from cnnclf.names import base_name
from cnnclf.pages.html_page import render_page
from cnnclf.reporting.run_report import WrittenReport
from cnnclf.runs.run_names import REPORT_FILE
from cnnclf.tuning.leaderboard import BEST_FILE, COORDINATES_FILE, FIGURE_FILE, RESULT_FILE
from cnnclf.tuning.request import SearchRequest
from cnnclf.tuning.space import describe_settings

_FIGURES = {FIGURE_FILE: "Accuracy against time", COORDINATES_FILE: "Settings of the trials"}


class _Row(BaseModel):
    trial: int
    epochs: int
    val_accuracy: float | None
    seconds: float
    settings: dict[str, Any]
    problem: str


class _Compared(BaseModel):
    trial: int
    seeds: int
    accuracy: float
    difference: float
    low: float
    high: float


class _Result(BaseModel):
    """What the page shows of result.json."""

    verdict: str
    run: str
    rungs: list[int]
    leaderboard: list[_Row]
    confirmations: list[_Compared]
    importances: dict[str, float] = {}
    test: str | None = None


def report_search(directory: Path, *, out: Path | None = None) -> WrittenReport:
    """Write a page about a search: leaderboard, comparison with the default, figures.

    Args:
        directory: The tuning directory.
        out: The file; None for report.html in the directory.

    Raises:
        RunError: The search is not finished, its files are damaged, or the page cannot be written.
    """
    result, request = _read_result(directory), SearchRequest.load(directory)
    best = str(directory / BEST_FILE)
    found = {name: directory / name for name in _FIGURES if (directory / name).is_file()}
    figures = [
        (_FIGURES[name], f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}")
        for name, path in found.items()
    ]
    page = render_page(
        Path(__file__).with_name("search.html"),
        title=f"Search {base_name(directory)}",
        name=str(directory),
        result=result,
        words=describe_settings,
        figures=figures,
        commands=[
            shlex.join(["cnnclf", request.command, str(request.dataset), "--config", best]),
            shlex.join(["cnnclf", "report", result.run]),
        ],
    )
    target = out or directory / REPORT_FILE
    write_text_atomic(target, page)
    drawn = _FIGURES if result.leaderboard[1:] else {FIGURE_FILE}  # the default has no settings
    missing = [f"{directory / name} is missing" for name in drawn if name not in found]
    return WrittenReport(target, target.stat().st_size, missing)


def _read_result(directory: Path) -> _Result:
    path, again = directory / RESULT_FILE, f"cnnclf tune --resume {shlex.quote(str(directory))}"
    if not path.is_file():
        raise RunError(
            f"the search {directory} is not finished: it has no {RESULT_FILE}",
            f"continue it: {again}",
        )
    hint = f"write it again: {again}"
    try:
        return _Result(**read_json(path, hint=hint))
    except ValidationError as error:
        raise RunError(f"{path} is damaged: {describe_fault(error)}", hint) from error
