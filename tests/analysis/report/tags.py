"""A page taken apart."""

from collections.abc import Iterator
from html.parser import HTMLParser

INLINE = {"a", "b", "code", "span"}


class Tags(HTMLParser):
    """Every element with its attributes, and the text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in INLINE:
            self.text += " "

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += data

    def addresses(self) -> Iterator[str]:
        for _, attributes in self.elements:
            for name in ("src", "href", "action", "data", "srcset"):
                if attributes.get(name):
                    yield str(attributes[name])
