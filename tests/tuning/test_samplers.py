from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.errors import MissingPackageError
from cnnclf.tuning.samplers import (
    STORAGE_FILE,
    EvolutionSampler,
    build_sampler,
    describe_limits,
)
from cnnclf.tuning.space import Point, Space, read_space

SPACE = read_space(
    {
        "model.dropout": {"low": 0.0, "high": 0.5},
        "optimizer.learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
        "model.activation": ["relu", "gelu"],
        "model.filters": [[8], [16], [8, 16]],
        "training.batch_size": {"low": 8, "high": 64},
    },
    source="here",
)


def test_quasi_random_points_fill_each_axis_evenly() -> None:
    sampler = EvolutionSampler(SPACE, seed=3)
    points = [sampler.propose(number, []) for number in range(64)]
    for key in points[0]:
        counts = np.histogram([point[key] for point in points], bins=8, range=(0, 1))[0]
        assert counts.min() >= 5  # 64 random points leave bins of 2 or 3
    assert points == [EvolutionSampler(SPACE, seed=3).propose(number, []) for number in range(64)]
    assert points[0] != EvolutionSampler(SPACE, seed=4).propose(0, [])


def test_later_points_change_at_most_three_settings_of_a_good_one() -> None:
    sampler = EvolutionSampler(SPACE, seed=0)
    best: list[Point] = [{}, {"model.dropout": 0.2, "model.activation": 0.9}]
    sizes = set()
    for number in range(8, 80):
        point = sampler.propose(number, best)
        assert all(0 <= place <= 1 for place in point.values())
        if number % 3:
            changed = min(
                sum(point.get(key) != parent.get(key) for key in {*point, *parent})
                for parent in best
            )
            sizes.add(changed)
    assert sizes <= {0, 1, 2, 3}
    assert {1, 2, 3} <= sizes


def test_random_points_do_not_depend_on_the_best() -> None:
    sampler = build_sampler("random", SPACE, seed=0, directory=Path())
    assert sampler.propose(20, [{}]) == sampler.propose(20, [{"model.dropout": 0.1}])


@pytest.mark.parametrize("kind", ["tpe", pytest.param("cmaes", marks=pytest.mark.slow)])
def test_a_sampler_of_optuna_makes_the_same_choices_again(kind: str, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")

    def ask(count: int) -> list[Point]:
        sampler = build_sampler(kind, SPACE, seed=1, directory=tmp_path)
        points = []
        for number in range(count):
            point = sampler.propose(number, [])
            sampler.tell(number, None if number == 2 else -abs(point["model.dropout"] - 0.3))
            points.append(point)
        return points

    first = ask(6)
    assert ask(6) == first
    # a connection that stays open is a ResourceWarning of Python 3.13
    opened = [each.resolve() for each in Path("/proc/self/fd").glob("*")]
    assert tmp_path / STORAGE_FILE not in opened
    assert all(0 <= place <= 1 for point in first for place in point.values())
    pool = pytest.importorskip("sqlalchemy.pool")
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{tmp_path / STORAGE_FILE}", engine_kwargs={"poolclass": pool.NullPool}
    )
    study = optuna.load_study(study_name="cnnclf", storage=storage)
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") == 5
    assert states[2] == "FAIL"


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [("tpe", "optuna", "tune"), ("cmaes", "cmaes", "tune"), ("gp", "torch", "gp")],
)
def test_the_extra_of_a_missing_package_is_named(
    kind: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(
        MissingPackageError, match=f"--sampler {kind} needs the package {package}"
    ) as caught:
        build_sampler(kind, SPACE, seed=0, directory=tmp_path)
    assert f"cnnclf[{extra}]" in caught.value.hint


@pytest.mark.parametrize(
    ("ranges", "learned"), [(0, "0 of 2 settings"), (1, "0 of 3 settings"), (2, "2 of 4 settings")]
)
def test_what_cmaes_does_not_learn_is_said(ranges: int, learned: str) -> None:
    keys = ["model.dropout", "training.label_smoothing"][:ranges]
    content: dict[str, Any] = {key: {"low": 0.0, "high": 0.5} for key in keys}
    content |= {"optimizer.name": ["sgd", "adamw"], "model.kernel_size": [3, 5]}
    space = read_space(content, source="here")
    assert f"learns {learned}" in describe_limits("cmaes", space)
    assert not describe_limits("tpe", space)
    assert bool(describe_limits("cmaes", Space(space.dimensions[:ranges]))) == (ranges == 1)
