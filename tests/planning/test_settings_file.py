"""`settings.toml` has every setting of a run and leads to the same plan."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cnnclf.config import FinetuneConfig, TrainConfig, explicit_settings, list_fields, load_config
from cnnclf.data.manifest import Dataset
from cnnclf.errors import RunError
from cnnclf.planning.finetune_plan import plan_finetuning
from cnnclf.planning.plan import Plan
from cnnclf.planning.train_plan import plan_training
from tests.training.tiny_finetune import tiny_backbone

PLANNERS: dict[Any, Any] = {TrainConfig: plan_training, FinetuneConfig: plan_finetuning}
GIVEN_DEFAULTS: dict[Any, dict[str, object]] = {
    kind: {key: value for key, value in each.items() if value is not None}
    for kind in PLANNERS
    for each in [{key: field.default for key, field in list_fields(kind).items()}]
}


def make_plan(kind: Any, dataset: Dataset, **sources: Any) -> Plan[Any]:
    config, given = load_config(**sources, kind=kind)
    with tiny_backbone():
        plan: Plan[Any] = PLANNERS[kind](config, dataset, given=given)
    return plan


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (TrainConfig, {}),
        (TrainConfig, {"model.preset": "textbook", "model.blocks": 2, "data.image_size": "12x16"}),
        (TrainConfig, {"model.filters": "4,6", "training.epochs": "auto", "augment.flip": 0.5}),
        (TrainConfig, {"optimizer.name": "adam", "augment.preset": "light", "model.l2": 1e-7}),
        (TrainConfig, GIVEN_DEFAULTS[TrainConfig]),
        (FinetuneConfig, {}),
        (FinetuneConfig, {"head.search": True, "optimizer.name": "sgd", "features.views": 3}),
        (FinetuneConfig, {"features.views": 3, "augment.preset": "light", "tail.unfreeze": 2}),
        (FinetuneConfig, {"head.search_rates": "0.001,0.01", "backbone.name": "tiny"}),
        (FinetuneConfig, GIVEN_DEFAULTS[FinetuneConfig]),
    ],
)
def test_settings_lead_to_the_same_plan(
    shapes: Dataset, tmp_path: Path, kind: Any, options: dict[str, object]
) -> None:
    if kind is FinetuneConfig:
        options = {"backbone.weights": "none"} | options
    plan = make_plan(kind, shapes, options=options)
    file = tmp_path / "settings.toml"
    file.write_text(plan.to_toml() or "")
    again = make_plan(kind, shapes, file=file)
    first, second = plan.to_dict(), again.to_dict()
    assert first.pop("given").keys() == second.pop("given").keys()
    assert second == first
    assert again.to_toml() == plan.to_toml()


@pytest.mark.parametrize("kind", list(PLANNERS), ids=lambda kind: kind.command)
def test_settings_name_and_describe_every_setting(shapes: Dataset, kind: Any) -> None:
    text = make_plan(kind, shapes, options={"runtime.seed": 7}).to_toml() or ""
    assert tomllib.loads(text)["runtime"] == {"seed": 7}
    without = text.replace("\n# ", "\n").replace("\n#", "\n")
    words = " ".join(without.split())
    for key, field in list_fields(kind).items():
        assert f"\n{key.rpartition('.')[2]} = " in without, key
        assert " ".join(str(field.description).split()) in words, key


@pytest.mark.parametrize("kind", list(PLANNERS), ids=lambda kind: kind.command)
def test_each_value_that_the_run_used_may_be_put_in_force(
    shapes: Dataset, tmp_path: Path, kind: Any
) -> None:
    options = {"backbone.weights": "none"} if kind is FinetuneConfig else {}
    plan = make_plan(kind, shapes, options=options)
    file = tmp_path / "settings.toml"
    lines = (plan.to_toml() or "").splitlines()
    names = tuple(f"# {key.rpartition('.')[2]} = " for key in list_fields(kind))
    file.write_text(
        "\n".join(
            line[2:] if line.startswith(names) and not line.endswith("= ") else line
            for line in lines
        )
    )
    again = make_plan(kind, shapes, file=file)
    assert again.config == plan.config
    assert len(explicit_settings(load_config(file, kind=kind)[0])) > 40


def test_a_file_of_weights_is_found_from_any_directory(
    shapes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnclf.models.weights import sources

    (tmp_path / 'my "weights".h5').write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "_check_kind", lambda *_: None)
    options = {"backbone.weights": 'my "weights".h5'}
    text = make_plan(FinetuneConfig, shapes, options=options).to_toml() or ""
    assert tomllib.loads(text)["backbone"]["weights"] == str(tmp_path / 'my "weights".h5')


def test_a_path_that_is_not_utf_8_must_be_given_again(
    shapes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnclf.models.weights import sources

    name = os.fsdecode(b"caf\xe9.h5")
    (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr(sources, "_check_kind", lambda *_: None)
    options = {"backbone.weights": str(tmp_path / name)}
    plan = make_plan(FinetuneConfig, shapes, options=options)
    file = tmp_path / "settings.toml"
    file.write_text(plan.to_toml() or "", encoding="utf-8")
    assert 'weights = ""' in file.read_text(encoding="utf-8").splitlines()
    assert "give it with --weights." in file.read_text(encoding="utf-8")
    with pytest.raises(RunError, match="received an empty value"):
        make_plan(FinetuneConfig, shapes, file=file)
    again = make_plan(FinetuneConfig, shapes, file=file, options=options)
    assert again.to_dict()["config"] == plan.to_dict()["config"]
