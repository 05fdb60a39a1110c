"""check.html: complete in itself, readable without its script, and safe whatever names hold."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import CheckConfig
from cnnclf.importers import open_dataset
from cnnclf.progress import Silent
from cnnclf.quality import check_page
from cnnclf.quality.checking import QualityReport, check_dataset, write_report
from tests.quality.drawn import FIRST, PLANTS, DrawnSet

VOID = {"meta", "img", "br", "wbr", "link", "input"}
HOSTILE = '<script>alert("x")</script>\u202e'


class Page(HTMLParser):
    """Collects tags and text, and checks that every tag is closed in order."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def find(self, tag: str, cls: str = "") -> list[dict[str, str | None]]:
        return [
            attrs
            for name, attrs in self.tags
            if name == tag and (not cls or cls in (attrs.get("class") or "").split())
        ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, QualityReport]:
    root = tmp_path_factory.mktemp("page")
    drawn = DrawnSet(root / "drawn")
    PLANTS["near-duplicates-across-splits"](drawn)
    PLANTS["shortcuts"](drawn)
    drawn.rows = [replace(row, label=HOSTILE) if row.label == "box" else row for row in drawn.rows]
    dataset = drawn.import_into(root / "dataset")
    report, evidence = check_dataset(dataset, config=CheckConfig(), progress=Silent())
    (drawn.root / FIRST).unlink()  # between the check and the page
    files = write_report(root / "report", report, evidence=evidence, progress=Silent())
    assert files == [root / "report" / "findings.csv", root / "report" / "check.html"]
    assert sorted(path.name for path in (root / "report").iterdir()) == [
        "check.html",
        "findings.csv",
    ]
    return files[1].read_text(encoding="utf-8"), report


def test_it_is_complete_in_itself(written: tuple[str, QualityReport]) -> None:
    page = Page(written[0])
    assert not page.find("link")
    assert all(not attrs.get("src") for attrs in page.find("script"))
    assert all((attrs["src"] or "").startswith("data:image/") for attrs in page.find("img"))
    assert "http:" not in written[0]
    assert "https:" not in written[0]
    assert "default-src 'none'" in written[0]


def test_pairs_are_side_by_side_with_what_differs(written: tuple[str, QualityReport]) -> None:
    page = Page(written[0])
    pair = re.search(r'<div class="pair">(.+?)</div>', written[0], flags=re.DOTALL)
    assert pair is not None
    assert pair[1].count("<figure") == 2
    assert "split <b>test</b>" in pair[1]
    assert "split <b>train</b>" in pair[1]
    assert "pixels <b>70 x 70</b>" in pair[1]
    assert "class ball" in pair[1]
    alternatives = [attrs["alt"] for attrs in page.find("img")]
    assert alternatives[0] == "planted.png (ball, test)"
    assert set(alternatives[1:]) == {
        "10 images of ball",
        '10 images of <script>alert("x")</script>\\u202e',
    }
    assert "no image" in pair[1]  # the file is gone


def test_every_finding_is_there_without_the_script(written: tuple[str, QualityReport]) -> None:
    page = Page(written[0])
    assert len(page.find("li", "card")) == len(written[1].findings)
    for finding in written[1].findings:
        assert finding.message in page.text
    assert "hidden" in page.find("form")[0]  # the script shows the filters
    assert not [attrs for attrs in page.find("li", "card") if "hidden" in attrs]


def test_the_classes_are_drawn(written: tuple[str, QualityReport]) -> None:
    bars = Page(written[0]).find("i")
    assert {attrs["class"] for attrs in bars} == {"train", "val", "test"}
    row = re.search(r'<th scope="row">ball</th><td>(.+?)</td>', written[0])
    assert row is not None
    assert 'title="train: 20"' in row[1]
    assert 'title="test: 6"' in row[1]


def test_small_images_of_one_size_are_enlarged(tmp_path: Path) -> None:
    for label, value in (("a", 60), ("b", 190)):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(6):
            pixels = np.full((20, 28), value + number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / label / f"{number}.png")
    dataset = open_dataset(tmp_path / "set", progress=Silent())
    report, evidence = check_dataset(dataset, config=CheckConfig(), progress=Silent())
    page = check_page.render_page((), evidence, not_run={})
    assert report.images == 12
    assert "All images are 28 pixels wide and 20 high." in page
    sheet = next(attrs["src"] for attrs in Page(page).find("img", "sheet")) or ""
    with Image.open(io.BytesIO(base64.b64decode(sheet.partition(",")[2]))) as image:
        gray = np.asarray(image.convert("L"))
    dark = abs(gray[:, :96].astype(int) - 63) < 10
    assert dark.sum() > 0.9 * (3 * 28) * (3 * 20)


def test_names_are_text(written: tuple[str, QualityReport]) -> None:
    page = Page(written[0])
    assert len(page.find("script")) == 1
    assert "\u202e" not in written[0]
    assert "\\u202e" in written[0]


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")

# Its windows are at least 500 pixels wide, so the body is made as narrow as a phone.
WALK = """<script>
document.body.style.width = "360px";
const press = (key) => document.body.dispatchEvent(
  new KeyboardEvent("keydown", { key, bubbles: true }));
window.prompt = (words, suggested) => suggested || 'say "box", please';
press("j"); press("1"); press("2"); press("k"); press("l");
document.title = JSON.stringify({
  csv: writeDecisions(),
  current: document.querySelector(".current").closest("section").id,
  marked: [...document.querySelectorAll("figure[data-mark]")].map((each) => each.dataset.mark),
  button: document.getElementById("export").textContent,
  wide: document.body.scrollWidth > 360,
  images: [...document.querySelectorAll(".pair img, .pair .none")].map((each) => each.clientWidth),
});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_keys_walk_and_mark_in_a_browser(
    written: tuple[str, QualityReport], tmp_path: Path
) -> None:
    page = tmp_path / "check.html"
    page.write_text(written[0].replace("</body>", WALK + "</body>"), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=800,800", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    title = re.search("<title>(.+?)</title>", shown, flags=re.DOTALL)
    assert title is not None
    found = json.loads(unescape(title[1]))
    planted, first = (row for row in csv.DictReader(io.StringIO(found["csv"])))
    assert (planted["path"], planted["decision"]) == ("planted.png", "relabel")
    assert planted["label"] == 'say "box", please'
    assert planted["reason"] == "near-duplicates-across-splits" == found["current"]
    assert (first["path"], first["decision"], first["label"]) == (FIRST, "remove", "")
    assert len(first["sha256"]) == 16
    assert "remove" in found["marked"]
    assert found["button"] == "Export decisions.csv (2)"
    assert not found["wide"]
    assert 112 < min(found["images"]) <= max(found["images"]) <= 160


def test_of_many_findings_some_of_each_class_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    drawn.add("blank.png", Image.new("RGB", (96, 96)), "box")
    dataset = drawn.import_into(tmp_path / "dataset")
    report, evidence = check_dataset(dataset, config=CheckConfig(), progress=Silent())
    [(check, [first])] = [each for each in report.by_check() if each[0].name == "uniform"]
    many = [replace(first, label=label, message=f"no {n}") for n, label in enumerate("aaaba")]
    monkeypatch.setattr(check_page, "_MAX_CARDS", 3)
    content = check_page.render_page([(check, many)], evidence, not_run={})
    assert re.findall(r"<p>no (\d)</p>", content) == ["0", "1", "3"]
    assert "and 2 more in findings.csv" in content


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_filters_show_every_class_and_hidden_findings_are_not_marked(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    drawn = DrawnSet(tmp_path / "drawn")
    PLANTS["near-duplicates-across-splits"](drawn)
    drawn.rows = [replace(row, label=HOSTILE) for row in drawn.rows if row.label == "ball"]
    drawn.add("blank.png", Image.new("RGB", (96, 96)), "box")
    dataset = drawn.import_into(tmp_path / "dataset")
    report, evidence = check_dataset(dataset, config=CheckConfig(), progress=Silent())
    content = check_page.render_page(report.by_check(), evidence, not_run={})
    # a name that is no UTF-8, as Python reads it
    content = content.replace("[&quot;planted.png&quot;", "[&quot;\\udcff\U0001f600.png&quot;")
    page_file = tmp_path / "check.html"
    page_file.write_text(content, encoding="utf-8")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 500})
        asked: list[str] = []
        page.on("dialog", lambda dialog: asked.append(dialog.type))
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(page_file.as_uri())
        classes, finding = (page.locator(f"select[name={name}]") for name in ("label", "check"))
        classes.select_option(label=HOSTILE.replace("\u202e", "\\u202e"))
        assert page.locator("#near-duplicates-across-splits .card:visible").count() == 1
        classes.select_option(label="all")
        page.locator("h1").press("j")  # to the planted pair, which the filter then hides
        finding.select_option(label="uniform")
        page.locator("h1").press("1")
        assert page.locator("#export").is_disabled()
        finding.select_option(label="all")
        page.locator("h1").press("1")
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        assert page.locator("#export").bounding_box()["y"] < 100  # always in sight
        page.reload()
        assert asked == ["beforeunload"]
        page.locator("h1").press("j")
        page.locator("h1").press("1")
        with page.expect_download() as download:
            page.locator("#export").click()
        page.reload()
        assert asked == ["beforeunload"]
        download.value.save_as(tmp_path / "decisions.csv")
        browser.close()
    with (tmp_path / "decisions.csv").open(encoding="utf-8", errors="surrogateescape") as file:
        (row,) = csv.DictReader(file)
    assert row["path"] == "\udcff\U0001f600.png"


def test_paths_break_between_their_parts() -> None:
    broken = "<bdi>a &amp; b</bdi>/<wbr><bdi>long_<wbr>name-<wbr>1.png</bdi>"
    assert check_page.break_between_parts("a & b/long_name-1.png") == broken
