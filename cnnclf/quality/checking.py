"""From a dataset to its findings: measure every image once, then run the table of checks."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, Final

from cnnclf.config import CheckConfig
from cnnclf.data.manifest import Counts, Dataset
from cnnclf.data.manifest_rows import write_rows
from cnnclf.errors import DataError
from cnnclf.files import write_text_atomic
from cnnclf.names import count_of
from cnnclf.progress import STEPS, Progress
from cnnclf.quality.check_evidence import NO_NETWORKS, Evidence, Networks
from cnnclf.quality.check_page import render_page
from cnnclf.quality.check_table import CHECKS, SUSPECTS
from cnnclf.quality.fact_cache import open_facts, save_errors
from cnnclf.quality.finding import Case, Check, Finding, Severity

FINDINGS_NAME: Final = "findings.csv"
PAGE_NAME: Final = "check.html"

_PREVALENCE: Final = 0.1  # of all images; what more have is a property of the dataset
_MIN_SET: Final = 20  # in smaller datasets every image counts
_EXAMPLES: Final = 3
_ORDER: Final = tuple(Severity)


@dataclass(frozen=True)
class QualityReport:
    """What was found in a dataset.

    Args:
        dataset: The dataset.
        images: Rows of its manifest.
        labels: Its labels.
        counts: Images by split and label.
        findings: The worst first; those of one check are together.
        not_run: Checks that had nothing to look at, with what they need.
        failed: Files that are missing or cannot be decoded, and what the import lost.
        label_accuracy: Fraction of the labels that the classifier which finds label suspects agrees
            with; None if there was none.
        labels_unjudged: Labels of rare classes of which it knows too little.
        seconds: Wall time.
    """

    dataset: Path
    images: int
    labels: tuple[str, ...]
    counts: Counts
    findings: tuple[Finding, ...]
    not_run: dict[str, str]
    failed: int
    label_accuracy: float | None
    labels_unjudged: tuple[str, ...]
    seconds: float

    def __repr__(self) -> str:
        """Say what a notebook shows; `findings` and `by_check()` have the rest."""
        found = ", ".join(f"{check.name} {len(each)}" for check, each in self.by_check())
        images = count_of(self.images, "image")
        return f"QualityReport({str(self.dataset)!r}: {images}, {found or 'no findings'})"

    def by_check(self) -> list[tuple[Check, list[Finding]]]:
        """Return the checks that found something, the worst first, with their findings."""
        found: dict[str, list[Finding]] = {}
        for finding in self.findings:
            found.setdefault(finding.check, []).append(finding)
        rows = {check.name: check for check in CHECKS}
        return [(rows[name], findings) for name, findings in found.items()]

    def count(self, severity: Severity) -> int:
        """Count the findings of one severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as types that JSON supports."""
        return {
            "dataset": str(self.dataset),
            "images": self.images,
            "labels": list(self.labels),
            "counts": self.counts,
            "severities": {severity.value: self.count(severity) for severity in Severity},
            "checks": {check.name: len(found) for check, found in self.by_check()},
            "not_run": self.not_run,
            "failed": self.failed,
            "label_accuracy": self.label_accuracy,
            "labels_unjudged": list(self.labels_unjudged),
            "seconds": self.seconds,
            "findings": [asdict(finding) for finding in self.findings],
        }


def open_evidence(
    dataset: Dataset, *, config: CheckConfig, networks: Networks = NO_NETWORKS, progress: Progress
) -> Evidence:
    """Measure the images of a dataset, or load what was measured before.

    Raises:
        DataError: The dataset has no images.
    """
    if not len(dataset):
        raise DataError(f"{dataset.place} has no images", "import some: cnnclf import SOURCE")
    facts, place = open_facts(dataset, threads=config.threads, progress=progress)
    return Evidence(dataset, facts, config=config, place=place, networks=networks)


def check_dataset(
    dataset: Dataset, *, config: CheckConfig, networks: Networks = NO_NETWORKS, progress: Progress
) -> tuple[QualityReport, Evidence]:
    """Check the images, labels and splits of a dataset; no file is changed.

    Raises:
        DataError: The dataset has no images.
    """
    start = time.perf_counter()
    evidence = open_evidence(dataset, config=config, networks=networks, progress=progress)
    facts = evidence.facts
    findings: list[Finding] = []
    not_run: dict[str, str] = {}
    with progress.task("comparing images", len(CHECKS), unit=STEPS) as task:
        for check in CHECKS:
            if evidence.has(check.needs):
                findings += _run(check, evidence)
            else:
                not_run[check.name] = check.needs
            task.advance()
    findings.sort(key=lambda finding: _ORDER.index(finding.severity))  # stable
    report = QualityReport(
        dataset=dataset.directory,
        images=len(dataset),
        labels=dataset.labels,
        counts=dataset.counts(),
        findings=tuple(findings),
        not_run=not_run,
        failed=len(facts.missing) + len(facts.damaged) + int(dataset.source.get("unread") or 0),
        label_accuracy=None if SUSPECTS in not_run else evidence.judgement.accuracy,
        labels_unjudged=() if SUSPECTS in not_run else evidence.unjudged,
        seconds=time.perf_counter() - start,
    )
    errors = [finding.check for finding in findings if finding.severity is Severity.ERROR]
    save_errors(dataset, dict(Counter(errors)))
    return report, evidence


def write_report(
    directory: Path, report: QualityReport, *, evidence: Evidence, progress: Progress
) -> list[Path]:
    """Write what was found: findings.csv, with one line for each finding, and check.html.

    Args:
        directory: Made if it does not exist; files of an earlier report are replaced.
        report: What was found.
        evidence: What it rests on.
        progress: Receives the progress.

    Raises:
        DeviceError: The disk is full.
        RunError: A file cannot be written.
    """
    table, page = directory / FINDINGS_NAME, directory / PAGE_NAME
    with progress.task("writing the report", 2, unit=STEPS) as task:
        names = [field.name for field in fields(Finding)]
        write_rows(table, map(astuple, report.findings), header=names)
        task.advance()
        write_text_atomic(page, render_page(report.by_check(), evidence, not_run=report.not_run))
        task.advance()
    return [table, page]


def _run(check: Check, evidence: Evidence) -> list[Finding]:
    cases = list(check.find(evidence))
    total = len(evidence.dataset)
    if not check.is_property or total < _MIN_SET or len(cases) <= _PREVALENCE * total:
        return [_describe(check, case, evidence) for case in cases]
    message = (
        f"{count_of(len(cases), 'image')} of {total:,} ({100 * len(cases) / total:.0f} %), a "
        "property of "
        f"the dataset: {_name_examples(cases, evidence)}"
    )
    share = len(cases) / total
    return [Finding(Severity.NOTE, check.name, message, value=share)]


def _name_examples(cases: Sequence[Case], evidence: Evidence) -> str:
    paths = evidence.dataset.manifest.paths
    shown = [
        f"{paths[case.row]} ({case.words})" for case in cases[:_EXAMPLES] if case.row is not None
    ]
    return ", ".join(shown) + (" and more" if len(cases) > _EXAMPLES else "")


def _describe(check: Check, case: Case, evidence: Evidence) -> Finding:
    path, label, split, sha256 = case.path, "", "", ""
    other_path, other_label, other_split = "", "", ""
    if case.row is not None:
        path = evidence.dataset.manifest.paths[case.row]
        label, split = evidence.label_of(case.row), evidence.split_of(case.row)
        sha256 = evidence.dataset.manifest.sha256[case.row][:16]
    if case.other is not None:
        other_path = evidence.dataset.manifest.paths[case.other]
        other_label, other_split = evidence.label_of(case.other), evidence.split_of(case.other)
    return Finding(
        severity=check.severity,
        check=check.name,
        message=case.words,
        path=path,
        label=label,
        split=split,
        other_path=other_path,
        other_label=other_label,
        other_split=other_split,
        value=case.value,
        suggested=case.suggested,
        sha256=sha256,
    )
