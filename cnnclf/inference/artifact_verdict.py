"""The verdict on an exported model, which its export wrote to parity.json."""

from typing import Any

from cnnclf.errors import RunError
from cnnclf.files import read_json
from cnnclf.inference.bundles import Bundle
from cnnclf.inference.engines.engine import Engine
from cnnclf.progress import Progress
from cnnclf.runs.run_names import PARITY_FILE

_VERIFIED = "verified"


def report_verdict(bundle: Bundle, engine: Engine, *, progress: Progress) -> None:
    """Report why the outputs of an artifact may differ from those of the original model.

    Reports nothing for a bundle that is not an artifact, or an artifact without parity.json.

    Args:
        bundle: The bundle that was opened.
        engine: The engine that computes it.
        progress: Receives a warning if the artifact was rejected or not verified, and a note if it
            was verified with another engine or precision.
    """
    path = bundle.directory / PARITY_FILE
    if "format" not in bundle.content or not path.exists():
        return
    try:
        record = read_json(path)
    except RunError as error:
        progress.warn(error.message)
        return
    verdict = record.get("verdict")
    if verdict is None:
        progress.warn(f"{path} is damaged: its verdict is missing; export the run again")
        return
    if verdict != _VERIFIED:
        progress.warn(
            f"the artifact {bundle.directory} was {verdict} when it was exported{_reasons(record)}"
        )
        return
    tried = record.get("engine")
    if tried != {"name": engine.name, "precision": engine.precision} and isinstance(tried, dict):
        progress.note(
            f"the artifact was verified with {tried.get('name')} in {tried.get('precision')}, not "
            f"with {engine.name} in {engine.precision}; measure it with cnnclf evaluate"
        )


def _reasons(record: dict[str, Any]) -> str:
    parity = record.get("parity")
    problems = parity.get("problems") if isinstance(parity, dict) else None
    return f": {'; '.join(map(str, problems))}" if isinstance(problems, list) and problems else ""
