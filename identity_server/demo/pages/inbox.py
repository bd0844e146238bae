"""The demo's inbox: the messages that its servers sent, and the tour with what went over the wire."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

_SNIPPET_CHARACTERS = 140


@dataclass(frozen=True)
class Message:
    """A message as the mail or SMS sink received it; ``html`` is None when it has only text."""

    id: str
    medium: Literal["email", "msisdn"]
    sender: str
    recipient: str
    subject: str
    text: str
    html: str | None
    received_ts: int


@dataclass(frozen=True)
class Exchange:
    """One request and its answer; a body is None where there was none."""

    method: str
    path: str
    status: int
    request: Any | None
    response: Any | None


@dataclass(frozen=True)
class Step:
    title: str
    status: Literal["waiting", "running", "done", "failed"]
    exchanges: Sequence[Exchange]


def inbox_page(
    messages: Sequence[Message], selected_id: str | None, steps: Sequence[Step], links: Mapping[str, str]
) -> str:
    """The whole page. It links to itself as ``?message=<id>`` and, with nothing selected, as ``?``.

    ``links`` are labels with their URLs. With nothing selected a wide screen shows the newest message, a phone the
    list.
    """
    newest_first = sorted(messages, key=lambda message: message.received_ts, reverse=True)
    selected = next((message for message in newest_first if message.id == selected_id), None)
    return _TEMPLATES.get_template("inbox.html").render(
        style=_STYLE,
        messages=newest_first,
        chosen=selected is not None,
        shown=selected or (newest_first[0] if newest_first else None),
        steps=steps,
        links=links,
    )


def inbox_headers() -> dict[str, str]:
    """The headers of the inbox. A mail brings styles of its own and its frame inherits the policy, so styles are free;
    scripts, and whatever would be loaded from elsewhere, are not.
    """
    return {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def _mail_document(html: str) -> str:
    """The mail with its links opening in a new tab: the pages that they lead to refuse to be framed."""
    base = '<base target="_blank">'
    with_base, found = re.subn(r"<head(\s[^>]*)?>", lambda head: head[0] + base, html, count=1, flags=re.IGNORECASE)
    return with_base if found else base + html


def _snippet(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SNIPPET_CHARACTERS else line[:_SNIPPET_CHARACTERS].rstrip() + "…"


def _json_lines(body: Any) -> list[tuple[int, str]]:
    """Each line with the width of its indentation, so that what is too long can be broken and hang."""
    lines = json.dumps(body, indent=2, ensure_ascii=False).split("\n")
    return [(len(line) - len(line.lstrip(" ")), line.lstrip(" ")) for line in lines]


def _moment(timestamp_ms: int) -> datetime:
    return datetime.fromtimestamp(timestamp_ms / 1000, tz=UTC)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "mail_document": _mail_document,
        "snippet": _snippet,
        "json_lines": _json_lines,
        "moment": _moment,
        "reason": _reason,
    }
    return environment


_STYLE = files(__package__).joinpath("templates/inbox.css").read_text(encoding="utf-8")
_TEMPLATES = _environment()
