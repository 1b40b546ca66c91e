"""The list of messages has what a user can see, and nothing that only the code sees."""

from tests.experiments.messages import messages
from tests.support.commands import CHECKOUT


def texts(path: str) -> list[str]:
    return [f"{role}: {text}" for _, role, text in messages(CHECKOUT / path)]


def test_known_messages_of_each_kind_are_listed():
    assert "likely: the same command is running already" in texts("musicvae/folder_lock.py")
    assert "setting bars: Bars of a window." in texts("preprocess/settings.py")
    assert "help: Replace an earlier export in OUT." in texts("jobs/export.py")
    assert "ConfigError: {option} {value} cannot be used" in texts("jobs/command/command_line.py")
    assert any(line.startswith("docstring main:") for line in texts("jobs/train.py"))
    assert "page: Dropped bars" in texts("preprocess/report_page.html.jinja")
    assert "label: save all favourites as MIDI" in texts("jobs/sampler/gallery/gallery.html.jinja")
    assert "script: the page is damaged: hits are missing" in texts("jobs/sampler/gallery/grooves.js")


def test_docstrings_of_functions_and_shapes_of_arrays_are_not():
    assert texts("musicvae/model/encoders.py") == []
