"""Text in pages: names that are read from right to left turn nothing around them."""

import shutil
from pathlib import Path

import pytest

from cnnclf.pages.html_page import isolate_parts, render_page

CHROMIUM = shutil.which("chromium")
HEBREW = "\u05d0\u05d1"

_PLACES = """() => [...document.querySelectorAll("bdi, b")].map(
  (each) => each.getBoundingClientRect().left)"""


def test_parts_of_paths_are_text() -> None:
    assert isolate_parts("a&b/<i>.png") == "<bdi>a&amp;b</bdi>/<bdi>&lt;i&gt;.png</bdi>"
    assert isolate_parts("a/" + 100 * "b", 10) == "<bdi>a</bdi>/<bdi>bbb…bbbb</bdi>"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_parts_of_paths_and_what_follows_labels_stay_in_order(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    template = tmp_path / "names.html"
    template.write_text(
        '{% extends "frame.html" %}{% block main %}<p>{{ path | parts }}</p>'
        "<p>predicted <b>{{ label }}</b>, <b>25</b> %</p>{% endblock %}"
    )
    page_file = tmp_path / "page.html"
    path = f"{HEBREW}/{HEBREW} {HEBREW}/12.png"
    page_file.write_text(
        render_page(template, title="names", path=path, label=HEBREW), encoding="utf-8"
    )
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(page_file.as_uri())
        first, second, third, label, percent = page.evaluate(_PLACES)
        browser.close()
    assert first < second < third
    assert label < percent
