"""What is chosen for a cluster, and what becomes of results, without one."""

import pytest

from cnnclf.config import PredictConfig
from cnnclf.errors import DeviceError, UsageError
from cnnclf.prediction.cluster.connecting import Node, check_address
from cnnclf.prediction.cluster.driver import _take_sample, choose_device, choose_pool
from cnnclf.prediction.cluster.ray_data import Pool
from cnnclf.prediction.inputs import PAUSE, Found
from cnnclf.prediction.rows import Prediction
from cnnclf.prediction.summary import PredictSummary

SMALL, LARGE = Node("a", "10.0.0.1", 4, 0), Node("b", "10.0.0.2", 16, 0)
WITH_GPUS = Node("c", "10.0.0.3", 16, 2)


def test_workers_take_the_processors_of_all_nodes() -> None:
    assert choose_pool([SMALL, LARGE], "cpu") == Pool(5, 4)
    assert choose_pool([SMALL, LARGE], "cpu", threads=8) == Pool(2, 8)
    assert choose_pool([], "cpu") == Pool(0, 8)


def test_workers_with_a_gpu_are_as_many_as_gpus() -> None:
    assert choose_pool([SMALL, WITH_GPUS], "gpu") == Pool(2, 8, gpus=1)


@pytest.mark.parametrize(
    ("device", "engine", "nodes", "chosen"),
    [
        ("auto", "auto", [SMALL], "cpu"),
        ("auto", "auto", [SMALL, WITH_GPUS], "gpu"),
        ("auto", "openvino", [WITH_GPUS], "cpu"),
        ("cpu", "auto", [WITH_GPUS], "cpu"),
        ("gpu", "keras", [WITH_GPUS], "gpu"),
    ],
)
def test_gpus_are_taken_where_they_can_be_used(
    device: str, engine: str, nodes: list[Node], chosen: str
) -> None:
    assert choose_device(nodes, PredictConfig(engine=engine, device=device)) == chosen


def test_an_artifact_that_computes_on_processors_only_takes_no_gpu() -> None:
    assert choose_device([WITH_GPUS], PredictConfig(), form="onnx") == "cpu"
    assert choose_device([WITH_GPUS], PredictConfig(), form="savedmodel") == "gpu"
    gpu = PredictConfig(device="gpu")
    assert choose_device([WITH_GPUS], gpu, form="onnx") == "gpu"  # rejected later


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match="the cluster has no GPU"):
        choose_device([SMALL], PredictConfig(device="gpu"))
    with pytest.raises(UsageError, match="received gpu:1"):
        choose_device([WITH_GPUS], PredictConfig(device="gpu:1"))


def test_looking_at_the_first_path_loses_none() -> None:
    sample, found = _take_sample([Found("a.jpg"), Found("b.jpg")])
    assert (sample, list(found)) == ("a.jpg", [Found("a.jpg"), Found("b.jpg")])
    for first in ([PAUSE], [Found("gone", "no such file")], []):
        sample, found = _take_sample([*first])
        assert (sample, list(found)) == ("", first)


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert check_address("") == "local"
    for text in ("auto", "local", "10.0.0.1:6379", "head.example:6379", "[::1]:6379"):
        assert check_address(text) == text
    for text in ("photos", "photos/", "ray://10.0.0.1:10001", "10.0.0.1", "a b:1"):
        with pytest.raises(UsageError, match="expected auto, local or HOST:PORT as --ray"):
            check_address(text)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert check_address("") == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.1:10001")
    with pytest.raises(UsageError, match="as RAY_ADDRESS"):
        check_address("")


def test_summaries_add_up() -> None:
    whole, parts = PredictSummary(), [PredictSummary() for _ in range(3)]
    rows = [
        Prediction(f"{number}.jpg", error="bad")
        if number % 3 == 0
        else Prediction(f"{number}.jpg", ((("odd", "even")[number % 2], 0.9),))
        for number in range(30)
    ]
    for number, row in enumerate(rows):
        whole.add(row)
        parts[number * 3 // 30].add(row)
    total = PredictSummary()
    for part in parts:
        total.include(part)
    assert total == whole
