"""Connects to a Ray cluster or starts one on this machine, quietly, and explains failures.

Ray prints to the driver's stdout and stderr from threads and from C++; its output is discarded, or
goes to stderr with --verbose.
"""

import contextlib
import importlib
import importlib.util
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from cnnclf.errors import (
    CnnclfError,
    DeviceError,
    MissingPackageError,
    UsageError,
    one_line,
    with_causes,
)
from cnnclf.hardware import count_usable_cpus
from cnnclf.runtime import quiet
from cnnclf.signals import deferring_signals

OWN = "local"
ANY = "auto"

_ADDRESS = re.compile(r"[^/:\s]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_LOGS_HINT = "the logs of Ray, in /tmp/ray/session_latest/logs, may say more"
_REACH_S = 10.0
_STORE_BYTES = 256 << 20  # enough for the numbers of chunks and their rows


class Node(NamedTuple):
    """A machine of the cluster.

    Args:
        name: Ray's node ID.
        address: Its IP address.
        cpus: Processors that Ray may assign.
        gpus: GPUs that Ray may assign.
    """

    name: str
    address: str
    cpus: int
    gpus: int


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to."""

    title: str

    def nodes(self) -> tuple[Node, ...]:
        """List the nodes that are alive."""
        import ray

        return tuple(
            Node(
                node["NodeID"],
                node["NodeManagerAddress"],
                int(node["Resources"].get("CPU", 0)),
                int(node["Resources"].get("GPU", 0)),
            )
            for node in ray.nodes()
            if node["Alive"]
        )


def check_address(text: str) -> str:
    """Check the address of a cluster.

    Args:
        text: The value of --ray; empty if it was given without an address.

    Returns:
        `local` for a temporary cluster on this machine, `auto` for one that runs here, or
        HOST:PORT. An empty text means `RAY_ADDRESS` if it is set, as usual with Ray, else `local`.

    Raises:
        UsageError: It is not an address.
    """
    address = text or os.environ.get("RAY_ADDRESS", "") or OWN
    if address in {OWN, ANY} or _ADDRESS.fullmatch(address):
        return address
    where = "--ray" if text else "RAY_ADDRESS"
    raise UsageError(
        f"expected auto, local or HOST:PORT as {where}, received {address!r}",
        "put --ray after IMAGES to start a temporary cluster, or give it an address",
    )


def check_installed(option: str = "--ray") -> None:
    """Check that Ray Data is installed, without importing it.

    Raises:
        MissingPackageError: It is not installed.
    """
    for name in ("ray", "pandas", "pyarrow"):
        if importlib.util.find_spec(name) is None:
            raise MissingPackageError(
                f"{option} needs Ray Data, but {name} is not installed",
                "python -m pip install 'cnnclf[ray]'",
            )


@contextlib.contextmanager
def connect(address: str, *, verbose: bool = False) -> Iterator[Cluster]:
    """Connect to a cluster while the block runs; a temporary cluster ends with it.

    Args:
        address: As returned by `check_address`.
        verbose: Let Ray print to stderr.

    Raises:
        MissingPackageError: Ray is not installed.
        DeviceError: There is no cluster, or it rejects this process.
    """
    check_installed()
    if address not in {OWN, ANY}:
        _check_reachable(address)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment(_choose_environment(address, verbose=verbose)))
        stack.enter_context(_silence(verbose=verbose))
        with quiet(verbose=verbose), _sigterm_kept():
            import ray

            stack.callback(ray.shutdown)
            _join(ray, address, verbose=verbose)
        stack.enter_context(_named_errors())
        yield Cluster("this machine" if address == OWN else f"the cluster {address}")


def _check_reachable(address: str) -> None:
    """Raise at once if nothing listens at the address; Ray itself would wait for two minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_S).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address) from error


def _join(ray: Any, address: str, *, verbose: bool) -> None:
    settings: dict[str, Any] = {
        "address": address,
        "logging_level": logging.INFO if verbose else logging.CRITICAL,
        "log_to_driver": verbose,
    }
    if address == OWN:
        settings |= {
            "num_cpus": count_usable_cpus(),
            "object_store_memory": _STORE_BYTES,
            "include_dashboard": False,
        }
    for tries_left in (1, 0):
        try:
            # a cluster that is stopped while it starts leaves processes for a minute
            with deferring_signals() if address == OWN else contextlib.nullcontext():
                ray.init(**settings)
        except (ConnectionError, RuntimeError, OSError, ray.exceptions.RayError) as error:
            raise _explain_refusal(error, address) from error
        except Exception as error:
            # Ray raises plain Exception when a busy machine takes half a minute to start it.
            if type(error) is not Exception:
                raise
            ray.shutdown()
            if not tries_left:
                raise _explain_refusal(error, address) from error
        else:
            return


def _explain_refusal(error: BaseException, address: str) -> CnnclfError:
    text = " ".join(f"{each}" for each in with_causes(error))
    if address == OWN:
        return DeviceError(
            f"Ray cannot start on this machine: {_last_line(str(error))}",
            _LOGS_HINT,
        )
    if "token" in text.casefold() and "auth" in text.casefold():
        return DeviceError(
            f"the Ray cluster at {address} requires a token",
            "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH if the token is not in ~/.ray",
        )
    if "version mismatch" in text.casefold():
        return DeviceError(
            f"the versions of Python and Ray differ from those of the cluster: {one_line(error)}",
            "install the same versions on all nodes",
        )
    return _no_answer(address)


def _no_answer(address: str) -> DeviceError:
    where = "on this machine" if address == ANY else f"at {address}"
    return DeviceError(
        f"no Ray cluster answers {where}",
        "start one with: ray start --head; or give --ray without an address",
    )


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Turn errors of Ray into one line."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        text = "\n".join(str(each) for each in with_causes(error))
        if "No module named 'cnnclf" in text:
            raise MissingPackageError(
                "a worker of the cluster cannot import cnnclf",
                "on every node: python -m pip install 'cnnclf[ray]'",
            ) from error
        if isinstance(error, ray.exceptions.RayTaskError | ray.exceptions.UserCodeException):
            raise  # a bug: our own code returns every error that a user could fix
        raise DeviceError(
            f"the cluster failed: {_last_line(str(error))}",
            _LOGS_HINT,
        ) from error


def _choose_environment(address: str, *, verbose: bool) -> dict[str, str]:
    """Return the environment variables for Ray that the user has not set."""
    variables = {"RAY_USAGE_STATS_ENABLED": "0"}
    if not verbose:
        variables |= {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
    if address == OWN and "RAY_AUTH_MODE" not in os.environ:
        # A temporary token; otherwise Ray would write one into the home directory.
        variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return {name: value for name, value in variables.items() if name not in os.environ}


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _silence(*, verbose: bool) -> Iterator[None]:
    """Keep Ray's output out of the result on stdout."""
    with contextlib.ExitStack() as stack:
        if verbose:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            yield
            return
        nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        with quiet():
            importlib.import_module("ray.data")  # sets up its loggers
        loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
        levels = [(logger, logger.level) for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in levels:
                logger.setLevel(level)


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Restore the handler of SIGTERM; Ray's own would end the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _last_line(text: str) -> str:
    """Return the line of a traceback that contains the message."""
    lines = [line.strip() for line in _COLOR.sub("", text).splitlines()]
    return next((line for line in reversed(lines) if line), "no reason given")
