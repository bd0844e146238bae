"""Canonical JSON (Appendices, "Canonical JSON"): the bytes that are signed and hashed."""

from typing import Any

import orjson
from canonicaljson import encode_canonical_json

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
    # Iterative: what a peer sends may be nested deeper than Python's stack. Plain comparisons: everything that is
    # signed or put into the log passes here, and `match` takes twice as long.
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str) or item is None or item is True or item is False:
            continue
        if isinstance(item, int):
            if not -LARGEST_INTEGER <= item <= LARGEST_INTEGER:
                raise NotCanonical("an integer lies outside ±(2^53 - 1)")
        elif isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, (list, tuple)):
            pending.extend(item)
        else:
            raise NotCanonical(f"{type(item).__name__} has no canonical form")


def lenient_json(value: Any) -> bytes:
    """The encoding of ``value`` by older rules, which let floats and larger integers pass.

    Some servers sign requests whose content breaks today's rules: that is for whoever reads the content to refuse,
    the request was theirs nevertheless. Raises ``NotCanonical``.
    """
    try:
        return bytes(encode_canonical_json(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise NotCanonical(str(error)) from error
