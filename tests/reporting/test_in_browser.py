"""The pages in headless Chromium: no error, no request, cells that open, nothing cut off."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnnclf.progress import Silent
from cnnclf.reporting.run_report import report_run
from tests.reporting.made_runs import add_test, import_images, make_run

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is in the dev extra")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    dataset = import_images(folder / "dataset")
    run = make_run(folder / "run", dataset)
    add_test(run, dataset)
    return report_run(run, maps=False, progress=Silent()).path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1280, "light")])
@pytest.mark.parametrize("script", [True, False])
def test_the_report_opens_anywhere(
    browser: Any, page_file: Path, width: int, scheme: str, script: bool
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=script
    )
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    cell = page.locator(".confusion td a").first
    assert page.locator(".cell:visible").count() == 0
    cell.focus()
    page.keyboard.press("Enter")
    assert page.locator(".cell:visible").count() == 1
    assert page.locator(".cell:visible img").count() > 0
    assert page.locator("svg.chart").first.bounding_box()["width"] <= width
    if script:  # to measure: the page is never wider than the screen
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("[...document.images].every((each) => each.naturalWidth > 0)")
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    context.close()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_right_predictions_are_blue_and_mistakes_orange_as_in_confusion_png(
    browser: Any, page_file: Path, scheme: str
) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(page_file.as_uri())
    for which, (strong, weak) in ((".right", (2, 0)), (":not(.right)", (0, 2))):
        for cell in page.locator(f".confusion td{which}[style]").all():
            color = cell.evaluate("(each) => getComputedStyle(each).backgroundColor")
            channels = re.findall(r"[\d.]+", color)
            assert float(channels[strong]) > float(channels[weak]) + 100, color
    page.close()
