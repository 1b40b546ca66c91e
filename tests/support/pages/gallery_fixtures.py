"""A gallery and a browser that opens it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages.gallery_browser import GalleryBrowser, gallery_browser, missing_browser
from tests.support.pages.gallery_grooves import chance_gallery, sourced_gallery
from tests.support.requirements import skip_or_fail

FEW = 60
"""Grooves of `gallery_page`: a few screens."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GalleryBrowser]:
    if missing := missing_browser():
        skip_or_fail(f"there is no {missing}")
    with gallery_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def gallery_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chance_gallery(tmp_path_factory.mktemp("gallery") / "gallery.html", FEW)


@pytest.fixture(scope="module")
def sourced_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grooves with a source each."""
    return sourced_gallery(tmp_path_factory.mktemp("sourced") / "gallery.html", 4)


@pytest.fixture
def gallery(chromium: GalleryBrowser, gallery_page: Path) -> Iterator[GalleryBrowser]:
    """The page as somebody sees it who has never been there; at the end nothing was complained of or fetched."""
    chromium.open(gallery_page)
    chromium.run("localStorage.clear()")
    chromium.open(gallery_page)
    yield chromium
    assert chromium.console() == []
    assert {address.split(":")[0] for address in chromium.requests()} <= {"file", "blob", "data"}
