"""Bindings as lines of text: a JSON object each, with ``medium``, ``address`` and ``mxid``."""

from collections.abc import Iterable, Iterator

import orjson

from identity_server.identity.associations.statement import PlainBinding
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.identifiers import check_user_id
from identity_server.matrix.threepid import EMAIL, canonical, lowercase_spelling


class BadLine(ValueError):
    """A line that is no binding."""


def read_lines(lines: Iterable[bytes], after: int = 0) -> Iterator[PlainBinding]:
    """Raises ``BadLine``, which says which line it is (and not what is in it). ``after``: how many went before."""
    for number, line in enumerate(lines, start=after + 1):
        try:
            fields = orjson.loads(line)
            medium, typed = fields["medium"], fields["address"]
            threepid = canonical(medium, typed)
            spelling = lowercase_spelling(typed, threepid.address) if medium == EMAIL else None
            yield *threepid, check_user_id(fields["mxid"]), spelling
        except (ValueError, KeyError, TypeError, AttributeError, MatrixError) as error:
            raise BadLine(f"line {number} is no binding") from error


def write_line(binding: PlainBinding) -> bytes:
    medium, address, user_id, spelling = binding
    # The spelling folds to the address again when it is read.
    fields = {"medium": medium, "address": spelling or address, "mxid": user_id}
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
