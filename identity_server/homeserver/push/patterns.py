"""Glob-style patterns (Appendices, "Glob-style matching"), in time that no pattern can blow up."""

import re
from collections.abc import Callable

_WORD = re.compile(r"[A-Za-z0-9_]")

Matcher = Callable[[str], bool]


def whole(pattern: str) -> Matcher:
    """Whether all of a text matches, whatever its case."""
    first, *others = _parts(pattern)
    if not others:
        return lambda text: first.fullmatch(text) is not None
    *middle, last = others

    def matches(text: str) -> bool:
        found = first.match(text)
        if found is None:
            return False
        end = _after(middle, text, found.end())
        # The parts between stars have a fixed length each.
        start = len(text) - _length(last)
        return end is not None and start >= end and last.match(text, start) is not None

    return matches


def in_words(pattern: str) -> Matcher:
    """Whether some part of a text matches that starts and ends at a word boundary, whatever its case."""
    first, *others = _parts(pattern)
    if not others:
        return lambda text: _bounded(first, text, 0, at_start=True, at_end=True) is not None
    *middle, last = others

    def matches(text: str) -> bool:
        # The leftmost place for each part leaves the most to those that follow.
        start = _bounded(first, text, 0, at_start=True, at_end=False)
        end = None if start is None else _after(middle, text, start)
        if end is None:
            return False
        if not _length(last):
            return True
        return _bounded(last, text, end, at_start=False, at_end=True) is not None

    return matches


def word(words: str) -> Matcher:
    """The same for ``words`` as they stand."""
    literal = re.compile(re.escape(words), re.I)
    return lambda text: _bounded(literal, text, 0, at_start=True, at_end=True) is not None


def _parts(pattern: str) -> list[re.Pattern[str]]:
    """What stands between the stars."""
    return [
        re.compile("".join("." if character == "?" else re.escape(character) for character in part), re.I | re.S)
        for part in re.sub(r"\*+", "*", pattern).split("*")
    ]


def _length(part: re.Pattern[str]) -> int:
    return len(re.sub(r"\\(.)", r"\1", part.pattern, flags=re.S))


def _after(parts: list[re.Pattern[str]], text: str, position: int) -> int | None:
    """Where one part after the other has been found from ``position`` on."""
    for part in parts:
        found = part.search(text, position)
        if found is None:
            return None
        position = found.end()
    return position


def _bounded(part: re.Pattern[str], text: str, position: int, *, at_start: bool, at_end: bool) -> int | None:
    """The end of the first place of ``part`` from ``position`` on that has the word boundaries wanted."""
    while (found := part.search(text, position)) is not None:
        if (not at_start or _is_boundary(text, found.start() - 1)) and (not at_end or _is_boundary(text, found.end())):
            return found.end()
        position = found.start() + 1
        if position > len(text):
            return None
    return None


def _is_boundary(text: str, index: int) -> bool:
    return not 0 <= index < len(text) or _WORD.match(text[index]) is None
