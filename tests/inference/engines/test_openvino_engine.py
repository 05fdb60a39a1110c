"""OpenVINO as an engine: what it does beside computing."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_it_reports_nothing_to_anybody(tmp_path: Path) -> None:
    code = (
        "from cnnclf.inference.engines.openvino_engine import load_openvino\n"
        "import sys\n"
        "assert load_openvino().Core()\n"
        "print([name for name, module in sys.modules.items()"
        " if name.startswith('openvino_telemetry') and module])"
    )
    # With CI=true it would not report either.
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []
