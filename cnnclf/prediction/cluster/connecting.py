"""Joins a Ray cluster or starts one on this machine, quietly, and says why it cannot.

Ray prints to the driver's stdout and stderr from threads and from C++; what it says goes nowhere,
or to stderr if the user asks for it.
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

from cnnclf.errors import CnnclfError, DeviceError, MissingPackageError, UsageError
from cnnclf.hardware import count_usable_cpus
from cnnclf.runtime import quiet

OWN = "local"
ANY = "auto"

_ADDRESS = re.compile(r"[^/:\s]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_REACH_S = 10.0
_STORE_BYTES = 256 << 20  # what goes through it are numbers of chunks and their rows


class Node(NamedTuple):
    """A machine of the cluster.

    Args:
        name: What Ray calls it.
        address: Its IP address.
        cpus: Processors that Ray may give away.
        gpus: GPUs that Ray may give away.
    """

    name: str
    address: str
    cpus: int
    gpus: int


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to.

    Args:
        title: What to call it.
    """

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
    """Refuse what is no address of a cluster.

    Returns:
        `local` for a cluster of its own, `auto` for one that runs here, or HOST:PORT. Without any,
        what `RAY_ADDRESS` says, as everywhere with Ray, else `local`.

    Raises:
        UsageError: It is something else.
    """
    address = text or os.environ.get("RAY_ADDRESS", "") or OWN
    if address in {OWN, ANY} or _ADDRESS.fullmatch(address):
        return address
    where = "--ray" if text else "RAY_ADDRESS"
    raise UsageError(
        f"expected auto, local or HOST:PORT as {where}, received {address!r}",
        "put --ray behind IMAGES to start a cluster of its own, or give it an address",
    )


def check_installed() -> None:
    """Refuse where Ray is not installed, without importing it.

    Raises:
        MissingPackageError: It is not.
    """
    for name in ("ray", "pandas", "pyarrow"):
        if importlib.util.find_spec(name) is None:
            raise MissingPackageError(
                f"expected Ray Data to predict on a cluster, {name} is not installed",
                "python -m pip install 'cnnclf[ray]'",
            )


@contextlib.contextmanager
def connect(address: str, *, verbose: bool = False) -> Iterator[Cluster]:
    """Be connected to a cluster; one of its own ends with the block.

    Args:
        address: As `check_address` returns it.
        verbose: Let Ray print what it likes, to stderr.

    Raises:
        MissingPackageError: Ray is not installed.
        DeviceError: There is no cluster, or it does not let this process in.
    """
    check_installed()
    if address not in {OWN, ANY}:
        _check_reachable(address)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment(_choose_environment(address, verbose=verbose)))
        stack.enter_context(_silence(verbose=verbose))
        with quiet(verbose=verbose), _kept_signals():
            import ray

            stack.callback(ray.shutdown)
            _join(ray, address, verbose=verbose)
        stack.enter_context(_named_errors())
        yield Cluster("this machine" if address == OWN else f"the cluster {address}")


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing listens, for which Ray would look for two minutes."""
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
            ray.init(**settings)
        except (ConnectionError, RuntimeError, OSError, ray.exceptions.RayError) as error:
            raise _explain_refusal(error, address) from error
        except Exception as error:
            # This is what Ray raises, itself, where a busy machine took half a minute to start it.
            if type(error) is not Exception:
                raise
            ray.shutdown()
            if not tries_left:
                raise _explain_refusal(error, address) from error
        else:
            return


def _explain_refusal(error: BaseException, address: str) -> CnnclfError:
    text = " ".join(f"{each}" for each in _causes(error))
    if address == OWN:
        return DeviceError(
            f"Ray cannot start on this machine: {_last_line(str(error))}",
            "--verbose shows what Ray says",
        )
    if "token" in text.casefold() and "auth" in text.casefold():
        return DeviceError(
            f"the Ray cluster at {address} wants its token",
            "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH if the token is not in ~/.ray",
        )
    if "version mismatch" in text.casefold():
        return DeviceError(
            f"expected the versions of Python and Ray that the cluster has: {_condense(error)}",
            "install the same on all nodes",
        )
    return _no_answer(address)


def _no_answer(address: str) -> DeviceError:
    place = "on this machine" if address == ANY else f"at {address}"
    return DeviceError(
        f"expected a Ray cluster {place}, none answers",
        "start one with: ray start --head; or give --ray without an address",
    )


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Say in one line what broke in the cluster."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        text = "\n".join(str(each) for each in _causes(error))
        if "No module named 'cnnclf" in text:
            raise MissingPackageError(
                "expected cnnclf on every node of the cluster, a worker cannot import it",
                "on every node: python -m pip install 'cnnclf[ray]'",
            ) from error
        if isinstance(error, ray.exceptions.RayTaskError | ray.exceptions.UserCodeException):
            raise  # our own code, which gives back all that a user could mend
        raise DeviceError(
            f"the cluster broke off: {_last_line(str(error))}",
            "the same command with --resume goes on; --verbose shows what Ray says",
        ) from error


def _choose_environment(address: str, *, verbose: bool) -> dict[str, str]:
    """What Ray reads from the environment, where the user has not set it."""
    wanted = {"RAY_USAGE_STATS_ENABLED": "0"}
    if not verbose:
        wanted |= {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
    if address == OWN and "RAY_AUTH_MODE" not in os.environ:
        # A key of its own, or Ray would write one into the home directory.
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return {name: value for name, value in wanted.items() if name not in os.environ}


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _silence(*, verbose: bool) -> Iterator[None]:
    """Keep Ray from printing into the result."""
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
def _kept_signals() -> Iterator[None]:
    """Keep what SIGTERM does here; Ray would make it end the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _condense(error: BaseException, most: int = 300) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= most else f"{text[:most]}..."


def _last_line(text: str) -> str:
    """The line of a traceback that says what happened."""
    lines = [line.strip() for line in _COLOR.sub("", text).splitlines()]
    return next((line for line in reversed(lines) if line), "no reason given")
