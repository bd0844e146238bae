"""What a page says of itself (the Open Graph protocol), and where it says nothing, what it looks like: pure."""

import re
from html.parser import HTMLParser
from typing import Any

_MOST_CHARACTERS = 512 * 1024
_LONGEST_VALUE = 1000
_MOST_PROPERTIES = 50
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w:-]{1,40})""", re.IGNORECASE)
_CHARSET_IN_TYPE = re.compile(r"""charset\s*=\s*["']?([\w:-]{1,40})""", re.IGNORECASE)
_IGNORED = ("script", "style", "noscript", "template")


def properties_of(page: bytes, content_type: str) -> dict[str, str]:
    """By name, such as ``og:title``: as the page has them; title and description also from where else they stand."""
    reader = _Reader()
    # It is not closed: what is cut off at the end is left alone.
    reader.feed(_decoded(page, content_type)[:_MOST_CHARACTERS])
    found = dict(reader.properties)
    for name, text in (("og:title", reader.title), ("og:description", reader.description)):
        if text and name not in found:
            found[name] = text
    return found


def _decoded(page: bytes, content_type: str) -> str:
    told = _CHARSET_IN_TYPE.search(content_type)
    within = None if told else _CHARSET.search(page, 0, 4096)
    charset = told[1] if told else within[1].decode("ascii") if within else "utf-8"
    try:
        return page.decode(charset, "replace")
    except LookupError:
        return page.decode("utf-8", "replace")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.properties: dict[str, str] = {}
        self.description = ""
        self._texts: dict[str, str] = {}
        self._within: str | None = None
        self._ignored = False

    @property
    def title(self) -> str:
        return next((text for tag in ("title", "h1") if (text := _tidy(self._texts.get(tag, "")))), "")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "meta":
            self._read_meta({name: value or "" for name, value in attrs})
        elif tag in ("title", "h1") and tag not in self._texts:
            self._within = tag
            self._texts[tag] = ""
        elif tag in _IGNORED:
            self._ignored = True

    def handle_endtag(self, tag: str) -> None:
        if tag == self._within:
            self._within = None
        elif tag in _IGNORED:
            self._ignored = False

    def handle_data(self, data: str) -> None:
        if self._within and not self._ignored and len(self._texts[self._within]) < _LONGEST_VALUE:
            self._texts[self._within] += data

    def _read_meta(self, attributes: dict[str, str]) -> None:
        name = attributes.get("property") or attributes.get("name") or ""
        value = _tidy(attributes.get("content", ""))
        if not value:
            return
        if name.lower() == "description" and not self.description:
            self.description = value
        elif name.startswith("og:") and len(name) < 100 and len(self.properties) < _MOST_PROPERTIES:
            self.properties.setdefault(name, value)


def _tidy(text: str) -> str:
    return " ".join(text.replace("\0", " ").split())[:_LONGEST_VALUE]


def with_image(properties: dict[str, str], about: dict[str, Any] | None) -> dict[str, Any]:
    """The preview: the page's own picture replaced by what ``about`` says of our copy, or left out without one."""
    told = {name: value for name, value in properties.items() if name.split(":")[1] != "image"}
    return {**told, **(about or {})}
