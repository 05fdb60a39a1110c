"""The results of an export: the content of parity.json."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnclf.config import ExportConfig
from cnnclf.exporters.format_table import find_exporter
from cnnclf.exporters.parity import Parity
from cnnclf.hardware import count_usable_cpus, read_cpu_name

PARITY_VERSION = 1
VERIFIED, REJECTED, UNVERIFIED = "verified", "rejected", "not verified"


@dataclass(frozen=True)
class ExportReport:
    """The result of an export; `to_dict` is the content of parity.json.

    Args:
        directory: Directory of the artifact.
        settings: Settings of the export.
        verdict: verified, rejected or not verified.
        parity: The comparison; None without one.
        dataset: Directory and fingerprint of the data, and whether the model was trained on it.
        source: Directory and sha256 of the bundle.
        engine: Name and precision of the engine that ran the artifact.
        versions: Versions of cnnclf and the libraries.
    """

    directory: Path
    settings: ExportConfig
    verdict: str
    parity: Parity | None
    dataset: dict[str, Any] | None
    source: dict[str, Any]
    engine: dict[str, str]
    versions: dict[str, str]
    machine: dict[str, Any] = field(
        default_factory=lambda: {"processor": read_cpu_name(), "cpus": count_usable_cpus()}
    )

    @property
    def title(self) -> str:
        """Name of the format and quantization."""
        return find_exporter(self.settings.format).describe(self.settings.quantize)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of parity.json."""
        return {
            "schema_version": PARITY_VERSION,
            "verdict": self.verdict,
            **self.settings.model_dump(exclude={"verify"}),
            "parity": self.parity and self.parity.to_dict(),
            "dataset": self.dataset,
            "source": self.source,
            "engine": self.engine,
            "versions": self.versions,
            "machine": self.machine,
        }
