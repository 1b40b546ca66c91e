"""The share that a writer makes, and where its number comes from."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.sampler.settings import SampleSettings
from jobs.sampler.work import ARRAY_TASK, SampleShare, share_of
from musicvae.errors import ConfigError


@given(count=st.integers(1, 10_000), total=st.integers(1, 60))
def test_shards_cover_all_items_once_and_are_equal(count, total):
    spans = [SampleShare(number, total).span(count) for number in range(total)]
    assert [item for span in spans for item in range(span.first, span.last)] == list(range(count))
    assert max(s.last - s.first for s in spans) - min(s.last - s.first for s in spans) <= 1


@given(picked=st.sets(st.integers(0, 300), min_size=1), total=st.integers(1, 20))
def test_shards_share_what_is_picked_and_make_nothing_else(picked, total):
    options = SampleSettings(count=301, pick=tuple(sorted(picked)))
    shares = [SampleShare(number, total).spans(options) for number in range(total)]
    made = [[item for span in share for item in range(span.first, span.last)] for share in shares]
    assert [item for share in made for item in share] == sorted(picked)
    assert max(map(len, made)) - min(map(len, made)) <= 1
    whole = SampleShare().spans(options)
    assert all(one.last < other.first for one, other in pairwise(whole)), "neighbours are made together"


def test_without_a_word_all_is_one_shard_in_an_array_too():
    assert share_of(None, {ARRAY_TASK: "3"}) == SampleShare(0, 1)


def test_slurm_gives_the_number_only_when_asked():
    assert share_of("2/10", {ARRAY_TASK: "7"}) == SampleShare(2, 10)
    assert share_of("slurm/10", {ARRAY_TASK: "7"}) == SampleShare(7, 10)
    assert share_of("slurm+1000/4000", {ARRAY_TASK: "7"}) == SampleShare(1007, 4000)


@pytest.mark.parametrize("text", ["10/10", "1", "a/b", "-1/4", "1/0", "slurm", "slurm/2", "1/4/2", "slurm+3/10"])
def test_other_words_are_refused(text):
    with pytest.raises(ConfigError, match="cannot be used"):
        share_of(text, {ARRAY_TASK: "7"})


def test_outside_of_an_array_slurm_knows_no_number():
    with pytest.raises(ConfigError, match="needs a task of a SLURM array") as refused:
        share_of("slurm/4", {})
    assert "--array=0-3" in str(refused.value)
