"""What is said when a cluster cannot be joined, or breaks off."""

import signal

import pytest

from cnnclf.errors import DeviceError, MissingPackageError
from cnnclf.prediction.cluster.connecting import (
    _choose_environment,
    _explain_refusal,
    _join,
    _named_errors,
    connect,
)


def test_ray_neither_reports_nor_writes_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "RAY_BACKEND_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    own = _choose_environment("local", verbose=False)
    assert own["RAY_USAGE_STATS_ENABLED"] == "0"
    assert own["RAY_AUTH_MODE"] == "token"
    assert len(own["RAY_AUTH_TOKEN"]) == 64
    assert own["RAY_AUTH_TOKEN"] != _choose_environment("local", verbose=False)["RAY_AUTH_TOKEN"]
    joined = _choose_environment("10.0.0.1:6379", verbose=True)
    assert joined == {"RAY_USAGE_STATS_ENABLED": "0"}
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "RAY_AUTH_TOKEN" not in _choose_environment("local", verbose=False)


@pytest.mark.parametrize(
    ("address", "error", "message", "hint"),
    [
        (
            "local",
            RuntimeError("Traceback\n  line\nRuntimeError: no room\n"),
            "cannot start on this machine: RuntimeError: no room",
            "logs of Ray",
        ),
        (
            "10.0.0.1:1",
            ConnectionError("Failed"),
            "no Ray cluster answers at 10.0.0.1:1",
            "ray start",
        ),
        ("auto", ConnectionError("Failed"), "no Ray cluster answers on this machine", "ray start"),
        (
            "10.0.0.1:1",
            ConnectionError("InvalidAuthToken: Authentication token is missing"),
            "requires a token",
            "RAY_AUTH_MODE=token",
        ),
        (
            "10.0.0.1:1",
            RuntimeError("Version mismatch: The cluster was started with:\n  Ray: 2.9\n"),
            "Version mismatch: The cluster was started with: Ray: 2.9",
            "on all nodes",
        ),
    ],
)
def test_why_a_cluster_cannot_be_joined(
    address: str, error: Exception, message: str, hint: str
) -> None:
    explained = _explain_refusal(error, address)
    assert isinstance(explained, DeviceError)
    assert message in explained.message
    assert "\n" not in explained.message
    assert hint in explained.hint


def test_an_address_where_nothing_listens_is_found_out_without_ray() -> None:
    pytest.importorskip("pandas")
    with pytest.raises(DeviceError, match="no Ray cluster answers"), connect("127.0.0.1:1"):
        pass


def test_what_breaks_in_a_cluster_is_one_line() -> None:
    errors = pytest.importorskip("ray.exceptions")
    with (
        pytest.raises(DeviceError, match=r"the cluster failed: it is full$") as caught,
        _named_errors(),
    ):
        raise errors.RaySystemError("\x1b[36mray::ChunkQueue()\x1b[39m\n  line\nit is full\n")
    assert "--" not in caught.value.hint  # options of one command, and others use clusters, too
    with (
        pytest.raises(MissingPackageError, match="a worker of the cluster cannot import cnnclf"),
        _named_errors(),
    ):
        raise errors.RaySystemError("ModuleNotFoundError: No module named 'cnnclf'")
    with pytest.raises(errors.UserCodeException, match="a bug"), _named_errors():
        raise errors.UserCodeException("a bug")


class SlowRay:
    """A Ray that does not start in time for so many times."""

    def __init__(self, failures: int, kind: type[Exception] = Exception) -> None:
        self.exceptions = pytest.importorskip("ray.exceptions")
        self.failures, self.kind, self.calls = failures, kind, list[str]()

    def init(self, **_: object) -> None:
        self.calls.append("init")
        if self.failures:
            self.failures -= 1
            raise self.kind("The current node timed out during startup.")

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def test_a_busy_machine_gets_a_second_try() -> None:
    slow = SlowRay(1)
    _join(slow, "local", verbose=False)
    assert slow.calls == ["init", "shutdown", "init"]
    with pytest.raises(DeviceError, match="timed out during startup"):
        _join(SlowRay(2), "local", verbose=False)
    with pytest.raises(ZeroDivisionError):
        _join(SlowRay(1, ZeroDivisionError), "local", verbose=False)


def test_a_cluster_that_starts_is_not_stopped_before_it_can_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = SlowRay(0)

    def interrupt(**_: object) -> None:
        signal.raise_signal(signal.SIGINT)  # its processes would stay for a minute
        started.calls.append("started")

    monkeypatch.setattr(started, "init", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _join(started, "local", verbose=False)
    assert started.calls == ["started"]
    with pytest.raises(KeyboardInterrupt):
        _join(started, "auto", verbose=False)
    assert started.calls == ["started"]
