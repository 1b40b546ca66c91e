"""`python -m jobs` lists every command once, with one sentence."""

from jobs.__main__ import IN_ORDER_OF_USE, commands


def test_every_command_is_listed_once_with_a_sentence_that_fits_its_line():
    listed = [name for names in IN_ORDER_OF_USE.values() for name in names]
    sentences = commands()
    assert sorted(listed) == sorted(sentences)
    assert {name: text for name, text in sentences.items() if not 10 < len(text) < 110} == {}
