"""What an export was asked for and what came of it: the content of parity.json."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cnnclf.config import ExportConfig
from cnnclf.export.format_table import find_exporter
from cnnclf.export.parity import Parity
from cnnclf.hardware import count_usable_cpus, read_cpu_name

PARITY_VERSION = 1
VERIFIED, REJECTED, UNVERIFIED = "verified", "rejected", "not verified"


_DEFAULTS = ExportConfig(format="keras")


@dataclass(frozen=True)
class ExportSettings:
    """What to export, and what may be lost.

    Args:
        format: A name of `EXPORTERS`.
        quantize: None, float16 or int8.
        probabilities: Give probabilities instead of logits.
        split: Which images the comparison is made on.
        max_drop: Points of accuracy that may be lost, 0..100.
    """

    format: str
    quantize: str | None = None
    probabilities: bool = False
    split: str = _DEFAULTS.split
    max_drop: float = _DEFAULTS.max_drop

    @property
    def name(self) -> str:
        """The name of the artifact's directory in a run."""
        kind = "probabilities" if self.probabilities else None
        return "-".join(filter(None, (self.format, kind, self.quantize)))

    @property
    def title(self) -> str:
        """What people call it."""
        title = find_exporter(self.format).title
        return f"{title} {self.quantize}" if self.quantize else title


@dataclass(frozen=True)
class ExportReport:
    """What came of an export; `to_dict` is what parity.json holds.

    Args:
        directory: Where the artifact lies.
        settings: What was asked for.
        verdict: verified, rejected or not verified.
        parity: The comparison; None without one.
        dataset: Directory and fingerprint of the data, and whether it is what was trained on.
        source: Directory and sha256 of the bundle.
        engine: Name and precision of what ran the artifact.
        versions: Of the programs.
    """

    directory: Path
    settings: ExportSettings
    verdict: str
    parity: Parity | None
    dataset: dict[str, Any] | None
    source: dict[str, Any]
    engine: dict[str, str]
    versions: dict[str, str]
    machine: dict[str, Any] = field(
        default_factory=lambda: {"processor": read_cpu_name(), "cpus": count_usable_cpus()}
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the content of parity.json."""
        return {
            "schema_version": PARITY_VERSION,
            "verdict": self.verdict,
            **asdict(self.settings),
            "parity": self.parity and self.parity.to_dict(),
            "dataset": self.dataset,
            "source": self.source,
            "engine": self.engine,
            "versions": self.versions,
            "machine": self.machine,
        }
