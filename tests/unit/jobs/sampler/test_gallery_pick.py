"""The list that a gallery saves and jobs.sample --pick reads."""

import pytest

from jobs.sampler.settings import read_pick
from musicvae.errors import ConfigError


def test_a_list_gives_the_numbers_in_its_order(tmp_path):
    path = tmp_path / "favourites.txt"
    path.write_text("groove-00012\ngroove-00003\ngroove-1234567\n")
    assert read_pick(path) == [12, 3, 1234567]


def test_blank_lines_windows_line_ends_and_repeated_ids_do_no_harm(tmp_path):
    path = tmp_path / "favourites.txt"
    path.write_bytes(b"\xef\xbb\xbfgroove-00012\r\n\r\n  groove-00003  \r\ngroove-00012")
    assert read_pick(path) == [12, 3]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"groove-00001\n17\n", "'17' in line 2"),
        (b"groove-00001 groove-00002\n", "'groove-00001 groove-00002' in line 1"),
        (b"groove--0001\n", "'groove--0001' in line 1"),
        (b"groove-0001\n", "'groove-0001' in line 1"),
        (b"groove-" + b"9" * 60, "9...' in line 1"),
        ("groove-١".encode(), "in line 1"),
        (b"\n\n", "no ids"),
        (b"", "no ids"),
        (b"MThd\x00\x00\x00\x06\x80\xff", "a file that is not text"),
    ],
)
def test_what_is_no_list_is_refused_with_its_line(tmp_path, content, found):
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read_pick(path)
    assert found in refused.value.details["found"]
    assert "groove-00012" in refused.value.details["expected"]
    assert refused.value.details["do"]
    assert str(path) in refused.value.problem


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_pick(tmp_path / "absent")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_pick(tmp_path)
