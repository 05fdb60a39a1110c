"""check.html: the findings with their images, in one file that can be sent to a colleague."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from cnnclf.data.manifest import SPLITS
from cnnclf.errors import ImageError
from cnnclf.files import format_bytes
from cnnclf.names import count_of
from cnnclf.pages.html_page import as_data, show
from cnnclf.pages.html_page import render_page as render_html
from cnnclf.pages.svg_charts import Line, draw_class_bars, draw_lines
from cnnclf.quality.check_evidence import Evidence
from cnnclf.quality.check_table import CHECKS, SUSPECTS
from cnnclf.quality.finding import Check, Finding, Severity, advise
from cnnclf.quality.suspects import describe_judge

if TYPE_CHECKING:
    from markupsafe import Markup

_MAX_CARDS: Final = 60  # of each check, so that the page stays below about 10 MB
_THUMBNAIL: Final = 160
_MAX_DOTS: Final = 2_000
_MAX_NAMED: Final = 6  # classes in the legend of sizes
_MAX_SHEETS: Final = 60  # of classes
_SAMPLES: Final = 10
_SAMPLE: Final = 96

Found = Sequence[tuple[Check, Sequence[Finding]]]


def render_page(found: Found, evidence: Evidence, *, not_run: dict[str, str]) -> str:
    """Render the page.

    Args:
        found: The checks that found something, the worst first, with their findings.
        evidence: The dataset and its images, from which thumbnails are made.
        not_run: Checks that had nothing to look at, with what they need.

    Returns:
        HTML without any reference to other files.
    """
    dataset = evidence.dataset
    names = {check.name for check, _ in found}
    silent = [each.name for each in CHECKS if each.name not in names | set(not_run)]
    missing = "; ".join(f"{name} (no {need})" for name, need in not_run.items())
    findings = [finding for _, every in found for finding in every]
    return render_html(
        Path(__file__).with_name("check.html"),
        title=f"Check of {dataset.name}",
        total=show(
            f"{count_of(len(dataset), 'image')} of {count_of(len(dataset.labels), 'class')} in "
            f"{dataset.place}"
        ),
        counts=_count_severities(findings),
        filters=_render_filters(found),
        contents=_render_contents(found),
        sections="\n".join(_render_section(check, every, evidence) for check, every in found),
        histogram=draw_class_bars(_count_images(evidence)),
        scatter=_draw_sizes(evidence),
        sheets=[
            {"label": label, "image": image, "count": count}
            for label, image, count in _make_sheets(evidence)
        ],
        silent=", ".join(silent) or "none",
        missing=missing,
    )


def _text(text: str) -> str:
    """Escape for HTML, and show what would not be visible or turn the reading direction."""
    return escape(show(text))


def break_between_parts(path: str) -> str:
    """Escape a path for HTML that a narrow place breaks between its parts, not inside of words."""
    parts = (f"<bdi>{re.sub('(?<=[_-])', '<wbr>', _text(part))}</bdi>" for part in path.split("/"))
    return "/<wbr>".join(parts)


def _count_severities(findings: Sequence[Finding]) -> str:
    counts = []
    for severity in Severity:
        count = sum(finding.severity is severity for finding in findings)
        counts.append(f'<span class="{severity}">{count_of(count, severity)}</span>')
    return ", ".join(counts)


def _render_filters(found: Found) -> str:
    findings = [finding for _, every in found for finding in every]
    labels = {each for finding in findings for each in (finding.label, finding.other_label)}
    splits = {each for finding in findings for each in (finding.split, finding.other_split)}
    choices: dict[str, tuple[str, list[str]]] = {
        "check": ("finding", [check.name for check, _ in found]),
        "label": ("class", sorted(labels - {""})),
        "split": ("split", [split for split in SPLITS if split in splits]),
    }
    return "\n".join(
        f'<label>{title} <select name="{name}"><option value="">all</option>'
        + "".join(
            f'<option value="{escape(json.dumps(each))}">{_text(each)}</option>' for each in values
        )
        + "</select></label>"
        for name, (title, values) in choices.items()
    )


def _render_contents(found: Found) -> str:
    if not found:
        return "<p>Nothing was found.</p>"
    items = "".join(
        f'<li><span class="badge {every[0].severity}">{every[0].severity}</span> '
        f'<a href="#{check.name}">{_text(check.title)}</a>: {len(every):,}</li>'
        for check, every in found
    )
    return f"<nav><ul>{items}</ul></nav>"


def _render_section(check: Check, findings: Sequence[Finding], evidence: Evidence) -> str:
    shown = findings[:_MAX_CARDS] if check.name == SUSPECTS else _spread(findings)  # those: ranked
    cards = "".join(_render_card(finding, evidence) for finding in shown)
    more = len(findings) - _MAX_CARDS
    rest = f'<p class="dim">and {more:,} more in findings.csv</p>' if more > 0 else ""
    severity = findings[0].severity
    action = advise(check, findings, dataset=evidence.dataset)
    judge = ""
    if check.name == SUSPECTS:
        accuracy, images = evidence.judgement.accuracy, len(evidence.classes)
        words = describe_judge(accuracy, images, unjudged=evidence.unjudged)
        judge = f"<p>Judged by {_text(words)}.</p>"
    return (
        f'<section id="{check.name}" data-check="{check.name}">'
        f'<h2><span class="badge {severity}">{severity}</span> {_text(check.title)} '
        f'<span class="dim">({check.name}: {len(findings):,})</span></h2>'
        f"{judge}<p>Effect: {_text(check.effect)}.</p><p>Action: {_text(action)}.</p>"
        f'<ul class="cards">{cards}</ul>{rest}</section>'
    )


def _spread(findings: Sequence[Finding]) -> list[Finding]:
    """Choose the findings that have a card: of each class and split, or filters would find none."""
    counts: Counter[tuple[str, str]] = Counter()
    turns = []
    for finding in findings:
        counts[finding.label, finding.split] += 1
        turns.append(counts[finding.label, finding.split])
    rows = sorted(range(len(findings)), key=turns.__getitem__)[:_MAX_CARDS]
    return [findings[row] for row in sorted(rows)]


def _render_card(finding: Finding, evidence: Evidence) -> str:
    labels = _data(finding.label, finding.other_label)
    splits = _data(finding.split, finding.other_split)
    sides = [side for side in _name_sides(finding) if side[0]]
    facts = [_list_facts(path, evidence) for path, _, _ in sides]
    figures = []
    for (path, label, split), own in zip(sides, facts, strict=True):
        other = facts[0] if own is facts[-1] else facts[-1]
        lines = [_mark(name, value, other.get(name)) for name, value in own.items()]
        figures.append(_render_figure(path, label, split, lines=lines, evidence=evidence))
    suggested = f' data-suggested="{_data(finding.suggested)}"' if finding.suggested else ""
    images = f'<div class="pair">{"".join(figures)}</div>' if figures else ""
    return (
        f'<li class="card" data-labels="{labels}" data-splits="{splits}"{suggested}>{images}'
        f"<p>{_text(finding.message)}</p></li>"
    )


def _name_sides(finding: Finding) -> list[tuple[str, str, str]]:
    return [
        (finding.path, finding.label, finding.split),
        (finding.other_path, finding.other_label, finding.other_split),
    ]


def _data(*values: str) -> str:
    return escape(json.dumps([value for value in values if value]))


def _mark(name: str, value: str, other: str | None) -> str:
    """Print a fact, bold if the other image of a pair differs in it."""
    differs = other is not None and other != value
    return f"{name} <b>{_text(value)}</b>" if differs else f"{name} {_text(value)}"


def _list_facts(path: str, evidence: Evidence) -> dict[str, str]:
    row = evidence.rows_by_path.get(path)
    if row is None or not evidence.facts.numbers["is_usable"][row]:
        return {}
    numbers = evidence.facts.numbers[row]
    facts = {
        "class": evidence.label_of(row),
        "split": evidence.split_of(row) or "none",
        "pixels": f"{numbers['width']} x {numbers['height']}",
        "mode": evidence.facts.modes[row],
        "file": format_bytes(int(numbers["size_bytes"])),
    }
    quality = int(numbers["jpeg_quality"])
    return facts | ({"JPEG quality": str(quality)} if quality >= 0 else {})


def _render_figure(
    path: str, label: str, split: str, *, lines: Iterable[str], evidence: Evidence
) -> str:
    place = ", ".join(filter(None, [label, split]))
    source = _make_thumbnail(path, evidence)
    image = (
        f'<img src="{source}" alt="{_text(f"{path} ({place})" if place else path)}" loading="lazy">'
        if source
        else '<span class="none">no image</span>'
    )
    row = evidence.rows_by_path.get(path)
    digest = "" if row is None else evidence.dataset.manifest.sha256[row][:16]
    marks = f' data-image="{_data(path, digest)}"' if digest else ""
    return (
        f"<figure{marks}>{image}<figcaption>{break_between_parts(path)}<br>{'<br>'.join(lines)}</figcaption>"
        "</figure>"
    )


def _make_thumbnail(path: str, evidence: Evidence) -> str:
    """Return an image as a data URI, or "" if it cannot be decoded."""
    try:
        return as_data(evidence.dataset.reduce(evidence.dataset.root / path, _THUMBNAIL).image)
    except ImageError:
        return ""


def _draw_sizes(evidence: Evidence) -> "Markup | str":
    """Draw the width and height of images, by class; of many images some; one size in words."""
    numbers, labels = evidence.facts.numbers, evidence.dataset.labels
    rows = evidence.facts.usable
    if len(rows) < 2:
        return ""
    first = numbers[rows[0]]
    if all((numbers[side][rows] == first[side]).all() for side in ("width", "height")):
        return f"All images are {first['width']} pixels wide and {first['height']} high."
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:_MAX_DOTS])
    sizes = np.stack([numbers["width"][rows], numbers["height"][rows]], axis=1)
    lines = []
    for index in np.unique(evidence.classes[rows]).tolist():
        points = [(float(x), float(y)) for x, y in sizes[evidence.classes[rows] == index].tolist()]
        name = labels[index] if len(labels) <= _MAX_NAMED else ""
        # One dot for all images of a size, or it would be drawn a thousand times.
        lines.append(Line(name, sorted(set(points)), color=index, dots=True, is_joined=False))
    return draw_lines(
        lines,
        label="Width and height of the images",
        x="width in pixels",
        y="height",
        size=(820, 300),
        x_range=(0.0, 1.05 * float(sizes[:, 0].max())),
        y_range=(0.0, 1.05 * float(sizes[:, 1].max())),
    )


def _make_sheets(evidence: Evidence) -> Iterator[tuple[str, str, int]]:
    """Yield a sheet of some images of each class, as a data URI, and their number."""
    rng = np.random.default_rng(0)
    for index, label in enumerate(evidence.dataset.labels[:_MAX_SHEETS]):
        rows = evidence.facts.usable[evidence.classes[evidence.facts.usable] == index]
        images = []
        for row in rng.permutation(rows)[:_SAMPLES].tolist():
            with suppress(ImageError):
                image = evidence.dataset.reduce(evidence.dataset.file(row), _SAMPLE).image
                images.append(_enlarge(image.convert("RGB")))
        if images:
            sheet = Image.new("RGB", (_SAMPLE * len(images), _SAMPLE), (128, 128, 128))
            for place, image in enumerate(images):
                left = place * _SAMPLE + (_SAMPLE - image.width) // 2
                sheet.paste(image, (left, (_SAMPLE - image.height) // 2))
            yield label, as_data(sheet), len(images)


def _enlarge(image: Image.Image) -> Image.Image:
    """Enlarge a small image by whole pixels, so that it can be seen."""
    factor = max(1, _SAMPLE // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _count_images(evidence: Evidence) -> dict[str, dict[str, int]]:
    """Count the images of each class by split; `rest` are those without one."""
    counts = evidence.dataset.counts()
    found = {}
    totals = np.bincount(evidence.classes, minlength=len(evidence.dataset.labels)).tolist()
    for label, total in zip(evidence.dataset.labels, totals, strict=True):
        parts = {split: counts[split][label] for split in SPLITS}
        found[label] = parts | {"rest": total - sum(parts.values())}
    return found
