"""Quoted arguments are one line, readable where they can be, and without what sbatch refuses."""

import pytest
from hypothesis import given

from cluster.errors import TargetError
from cluster.sbatch import quoted, sbatch_value
from tests.support.harm.odd_words import odd_words


@given(odd_words())
def test_a_word_is_one_line_without_what_sbatch_refuses(word):
    assert "\n" not in quoted(word)
    assert "\r" not in quoted(word)


def test_nul_is_refused():
    with pytest.raises(ValueError, match="cannot hold NUL"):
        quoted("a\0b")


def test_plain_words_stay_readable():
    assert quoted("train.steps=30") == "train.steps=30"
    assert quoted("my shards") == "'my shards'"
    assert quoted("a\nb") == "$'a\\012b'"


def test_options_of_sbatch():
    assert sbatch_value("/home/ada/runs") == "/home/ada/runs"
    assert sbatch_value('my "runs"') == '"my \\"runs\\""'
    with pytest.raises(TargetError, match="control character"):
        sbatch_value("two\nlines")
