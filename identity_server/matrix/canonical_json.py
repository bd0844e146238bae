"""Canonical JSON (Appendices, "Canonical JSON"): the bytes that are signed and hashed."""

from typing import Any

import orjson

LARGEST_INTEGER = 2**53 - 1


class NotCanonical(ValueError):
    """The value holds what canonical JSON has no form for."""


def canonical_json(value: Any) -> bytes:
    """The one encoding of ``value``: keys sorted by code point, no white space, UTF-8.

    Raises ``NotCanonical`` for floats, integers beyond 2^53 - 1, lone surrogates and keys that are no strings.
    """
    check_canonical(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise NotCanonical(str(error)) from error


def check_canonical(value: Any) -> None:
    # Iterative: what a peer sends may be nested deeper than Python's stack.
    pending = [value]
    while pending:
        match pending.pop():
            case bool() | None | str():
                pass
            case int() as number:
                if not -LARGEST_INTEGER <= number <= LARGEST_INTEGER:
                    raise NotCanonical("an integer lies outside ±(2^53 - 1)")
            case dict() as members:
                pending.extend(members.values())
            case list() | tuple() as items:
                pending.extend(items)
            case other:
                raise NotCanonical(f"{type(other).__name__} has no canonical form")
