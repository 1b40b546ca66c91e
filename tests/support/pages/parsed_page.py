"""A page as a browser would take it apart."""

from html.parser import HTMLParser
from urllib.parse import urlsplit


class Page(HTMLParser):
    """Elements, their attributes and all text of a page; an element left open or closed twice is an error."""

    VOID = ("meta", "br", "link", "img", "hr", "wbr")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def loads_nothing(self) -> bool:
        """Whether no script, picture or style comes from anywhere, and links lead to files beside the page alone."""
        away = [link for link in self.links if any(urlsplit(link)[:2]) or link.startswith("/")]
        loading = {"script", "link", "img", "iframe", "object"} & set(self.tags)
        return not loading and not away and "src" not in dict(self.attributes)

    @property
    def links(self) -> list[str]:
        return [value for name, value in self.attributes if name == "href"]
