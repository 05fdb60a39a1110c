"""Nodes of a Ray cluster on this machine, which are processes of one session each."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
START_S = 90


@dataclass
class RayNodes:
    """A cluster that knows all its processes; `close` ends them whatever happens."""

    port: int
    directory: Path
    environment: dict[str, str]
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *, core: int | None = None, gpus: int = 0) -> subprocess.Popen[bytes]:
        """Start a node with one processor, the head if it is the first.

        Args:
            core: Let it have this core only.
            gpus: That Ray is told of; there need not be any.
        """
        log = self.directory / f"node{len(self.nodes)}.log"
        first = [
            "--head",
            f"--port={self.port}",
            "--include-dashboard=false",
            f"--temp-dir={self.directory}",
        ]
        command = [
            *(("taskset", "-c", str(core)) if core is not None else ()),
            *(sys.executable, "-m", "ray.scripts.scripts", "start"),
            *([f"--address={self.address}"] if self.nodes else first),
            *("--node-ip-address=127.0.0.1", "--num-cpus=1", f"--num-gpus={gpus}"),
            "--object-store-memory=100000000",
            *("--include-log-monitor=false", "--disable-usage-stats", "--block"),
        ]
        for _ in range(5):
            with log.open("wb") as output:
                node = subprocess.Popen(
                    command,
                    env=self.environment,
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            self.nodes.append(node)
            deadline = time.monotonic() + START_S
            while b"Ray runtime started" not in log.read_bytes() and node.poll() is None:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            if node.poll() is None:
                return node
            self.kill(self.nodes.pop())
            # Ray waits for half a minute, which is too short where all cores are busy.
            assert b"timed out during startup" in log.read_bytes(), log.read_text()
        raise AssertionError(log.read_text())

    def kill(self, node: subprocess.Popen[bytes]) -> list[str]:
        """Kill all processes of a node at once, as a power cut does; give their names."""
        names = []
        for _ in range(3):  # some may have been about to start others
            for number, name in find_session(node.pid).items():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
                    names.append(name)
        node.wait()
        return names

    def close(self) -> None:
        for node in reversed(self.nodes):
            self.kill(node)
        shutil.rmtree(self.directory, ignore_errors=True)


def find_session(leader: int) -> dict[int, str]:
    """Find the living processes of a session: number to name."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            head, _, tail = (entry / "stat").read_text().rpartition(")")
            state, _, _, session = tail.split()[:4]
            if int(session) == leader and state not in "ZX":
                found[int(entry.name)] = head.partition("(")[2]
    return found


@contextlib.contextmanager
def open_nodes() -> Iterator[RayNodes]:
    """Give a cluster without nodes, with a key of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("RAY_")
    } | {
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # A node that is silent is given up after two seconds instead of a quarter of a minute.
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "2000",
        "RAY_health_check_failure_threshold": "4",
    }
    # Short, as names of sockets may have 107 bytes and Ray adds 80.
    directory = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    nodes = RayNodes(port, directory, environment)
    try:
        yield nodes
    finally:
        nodes.close()
