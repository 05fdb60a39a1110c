"""Shards: the same on every machine, and whose a path is."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnclf.errors import ExitCode, UsageError
from cnnclf.prediction.sharding import Shard, parse_shard


@given(st.binary(max_size=30), st.integers(1, 50))
def test_a_path_has_one_owner(path: bytes, count: int) -> None:
    text = os.fsdecode(path)
    assert sum(Shard(index, count).owns(text) for index in range(1, count + 1)) == 1


def test_owners_stay_the_same_for_ever() -> None:
    """What one version began another one may go on with."""
    owners = [
        next(index for index in range(1, 6) if Shard(index, 5).owns(f"photos/{number}.jpg"))
        for number in range(8)
    ]
    assert owners == [5, 1, 4, 1, 1, 4, 4, 5]


def test_shards_are_read() -> None:
    assert parse_shard("3/8") == Shard(3, 8)
    assert parse_shard(" 1/1 ") == Shard(1, 1)
    assert str(parse_shard("2/4")) == "2/4"


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "a/b", "1/2/3", "-1/2", "1/2x"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a shard I/N") as caught:
        parse_shard(text)
    assert caught.value.exit_code is ExitCode.USAGE
    assert repr(text) in caught.value.message
