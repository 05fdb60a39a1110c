"""What is known of an exported model: the verdict that its export wrote into parity.json."""

from typing import Any

from cnnclf.errors import RunError
from cnnclf.files import read_json
from cnnclf.inference.bundles import Bundle
from cnnclf.inference.engines.engine import Engine
from cnnclf.progress import Progress
from cnnclf.runs import PARITY_FILE

_VERIFIED = "verified"


def tell_verdict(bundle: Bundle, engine: Engine, progress: Progress) -> None:
    """Say why an artifact may compute something else than what it was made of.

    A bundle that is no artifact, and an artifact without parity.json, give rise to no doubt.

    Args:
        bundle: What was opened.
        engine: What computes it now.
        progress: Is warned of an artifact that was rejected or not verified, and told if another
            engine or precision was verified than computes now.
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
    if verdict != _VERIFIED:
        progress.warn(
            f"the artifact {bundle.directory} was {verdict} when it was exported{_reasons(record)}"
        )
        return
    tried = record.get("engine")
    if tried != {"name": engine.name, "precision": engine.precision} and isinstance(tried, dict):
        progress.note(
            f"the artifact was verified in {tried.get('name')} and {tried.get('precision')}, not "
            f"in {engine.name} and {engine.precision}; cnnclf evaluate measures it"
        )


def _reasons(record: dict[str, Any]) -> str:
    parity = record.get("parity")
    problems = parity.get("problems") if isinstance(parity, dict) else None
    return f": {'; '.join(map(str, problems))}" if isinstance(problems, list) and problems else ""
