"""The glossary: every setting has a word, and words are found by all their names."""

import re
from pathlib import Path

import pytest

from cnnclf.config import FinetuneConfig, TrainConfig, list_fields
from cnnclf.errors import UsageError
from cnnclf.evaluation.metrics import METRICS
from cnnclf.glossary import TERMS, find_setting, find_term
from tests.conftest import Cli

# How the computer works, rather than what is learned.
MACHINE = ("runtime.", "features.", "data.cache", "head.search_")


def test_every_hyperparameter_has_a_term() -> None:
    keys = dict.fromkeys([*list_fields(TrainConfig), *list_fields(FinetuneConfig)])
    missing = [key for key in keys if find_setting(key) is None and not key.startswith(MACHINE)]
    assert missing == ["model.preset"]
    known = set(keys)
    assert not [key for term in TERMS for key in term.settings if key not in known]


def test_terms_are_few_sentences_under_one_name() -> None:
    assert len({term.anchor for term in TERMS}) == len(TERMS)
    assert [term.name.lower() for term in TERMS] == sorted(term.name.lower() for term in TERMS)
    for term in TERMS:
        assert 1 <= len(re.findall(r"[.?](?= |$)", term.text)) <= 4, term.name


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("stride", "stride"),
        ("--weight-decay", "weight decay"),
        ("Pool Size", "pooling"),
        ("relu", "activation function"),
        ("padding", "padding"),
        ("AUC", "ROC curve"),
        ("MACs", "parameter"),
        ("params", "parameter"),
        ("Sensitivity", "precision"),
        ("false positive rate", "ROC curve"),
        ("heat map", "evidence map"),
        ("test set", "split"),
        ("--views", "test-time augmentation"),
        ("--quantize", "quantization"),
    ],
)
def test_a_term_is_found_by_its_names(name: str, found: str) -> None:
    assert find_term(name).name == found


def test_short_names_are_not_taken_for_others_by_chance() -> None:
    with pytest.raises(UsageError) as caught:
        find_term("mAP")
    assert caught.value.hint == "cnnclf glossary lists all terms"


def test_every_metric_has_a_term() -> None:
    assert [metric.title for metric in METRICS if not find_term(metric.title)] == []
    for name in ("familiarity", "lac", "parameters"):  # what other tables show
        assert name in find_term(name).names


def test_an_unknown_term_names_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        find_term("momentun")
    assert error.value.hint == "did you mean cnnclf glossary momentum?"


def test_an_option_is_a_term(cli: Cli) -> None:
    shown = cli("glossary", "--weight-decay")
    assert shown.code == 0, shown.stderr
    assert shown.stdout.startswith("weight decay: ")
    assert cli("glossary", "weight", "decay").stdout == shown.stdout


def test_the_command_says_what_a_run_chose(cli: Cli) -> None:
    run = Path(__file__).parents[1] / "sample_data/tiny_run"
    result = cli("glossary", "filter", "--run", run)
    assert result.code == 0
    assert "--filters 8,16,24,32 (given: option)" in result.stdout
    assert cli("glossary", "zzzz").code == 2
