"""Which process of several is the main one, before Accelerate is imported."""

import pytest

from plainloop.run.rank_failure import is_rank_zero


@pytest.mark.parametrize(
    ("names", "is_main"),
    [({}, True), ({"RANK": "0"}, True), ({"RANK": "1"}, False), ({"PMI_RANK": "2"}, False)],
)
def test_one_process_of_several_is_rank_zero(names, is_main, monkeypatch):
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert is_rank_zero() is is_main
