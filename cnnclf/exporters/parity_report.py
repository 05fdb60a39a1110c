"""The settings and results of an export: the content of parity.json."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cnnclf.config import ExportConfig
from cnnclf.exporters.format_table import find_exporter
from cnnclf.exporters.parity import Parity
from cnnclf.hardware import count_usable_cpus, read_cpu_name

PARITY_VERSION = 1
VERIFIED, REJECTED, UNVERIFIED = "verified", "rejected", "not verified"


_DEFAULTS = ExportConfig(format="keras")


@dataclass(frozen=True)
class ExportSettings:
    """What to export, and the limits of the verdict.

    Args:
        format: A name of `EXPORTERS`.
        quantize: None, float16 or int8.
        probabilities: Output probabilities instead of logits.
        split: Split to compare on.
        max_drop: Maximum loss of accuracy, in percentage points, 0..100.
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
        """Name of the format and quantization, such as `ONNX int8`."""
        title = find_exporter(self.format).title
        return f"{title} {self.quantize}" if self.quantize else title


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
