"""The words of a message, in the reader's language.

A folder per language holds, for a message such as ``verification``:

``verification.txt``
    the mail as text; its first line is ``Subject: …``;
``verification.html``
    the mail as HTML; it may use ``subject``, and the shipped ones extend ``layout.html``, which stands outside the
    folders. A language without this file gets mails of text alone;
``verification.sms.txt``
    the SMS.

They are Jinja templates. A file in the operator's folder takes precedence over the shipped one of the same name, so that
one file may be changed, a language added (a language is there if its ``….txt`` is), or every mail dressed anew by
one's own ``layout.html``. A value that a template names and nobody gave is an error, not a gap.

Values: ``language`` and ``server_name`` always, further

- ``verification``: ``token``, and by mail ``link`` and ``lifetime_hours``, by SMS ``domain``;
- ``invitation``: ``link``, and perhaps ``inviter_name``, ``room_name`` and ``room_type`` (empty if not known).
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import FileSystemLoader, StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

_SHIPPED = Path(__file__).with_name("templates")
_LAST_RESORT = "en"
_SUBJECT = "Subject:"
# What strangers write, and a mail then says in the server's name.
_FROM_STRANGERS = ("inviter_name", "room_name")
_PERHAPS = {"inviter_name": "", "room_name": "", "room_type": ""}
_MAX_NAME_LENGTH = 60


class Mail(NamedTuple):
    subject: str
    text: str
    html: str | None


class Templates:
    """``overrides``: the operator's folder. ``language``: for readers whose own is not known, or not spoken here."""

    def __init__(self, overrides: Path | None = None, language: str = _LAST_RESORT) -> None:
        folders = [overrides, _SHIPPED] if overrides else [_SHIPPED]
        self._language = language
        self._environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(folders),
            autoescape=lambda name: name is not None and name.endswith(".html"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._files = frozenset(self._environment.list_templates())

    def mail(self, message: str, language: str | None, context: Mapping[str, Any]) -> Mail:
        """Raises ``jinja2.TemplateError`` if a template is at fault, ``ValueError`` if it has no subject."""
        spoken = self.language_of(f"{message}.txt", language)
        values = _values(spoken, context)
        subject, _, text = self._template(f"{spoken}/{message}.txt").render(values).partition("\n")
        if not subject.startswith(_SUBJECT):
            raise ValueError(f'the first line of {spoken}/{message}.txt is not "Subject: …"')
        subject = " ".join(subject.removeprefix(_SUBJECT).split())
        html = f"{spoken}/{message}.html"
        return Mail(
            subject,
            text.strip() + "\n",
            self._template(html).render(values, subject=subject) if html in self._files else None,
        )

    def sms(self, message: str, language: str | None, context: Mapping[str, Any]) -> str:
        """Raises ``jinja2.TemplateError`` if a template is at fault."""
        spoken = self.language_of(f"{message}.sms.txt", language)
        return self._template(f"{spoken}/{message}.sms.txt").render(_values(spoken, context)).strip()

    def language_of(self, file: str, wanted: str | None) -> str:
        """Of the languages in which there is this file, the one for a reader who wants ``wanted``."""
        available = {folder for folder, _, name in (path.rpartition("/") for path in self._files) if name == file}
        return (
            preferred_language(wanted, available) or preferred_language(self._language, available) or _LAST_RESORT
        )
