"""The words of a message, in the reader's language.

A folder per language holds, for a message such as ``verification``:

``verification.txt``
    the mail as text; its first line is ``Subject: …``;
``verification.html``
    the mail as HTML; it may use ``subject``, and the shipped ones extend ``layout.html``, which stands outside the
    folders. A language without this file gets mails of text alone;
``verification.sms.txt``
    the SMS.

They are Jinja templates. A file in the operator's folder takes precedence over the shipped one of the same name, so
that one file may be changed, a language added (it is there if its ``….txt`` is), or every mail dressed anew by one's
own ``layout.html``. A value that a template names and nobody gave is an error, not a gap.

Values: ``language`` and ``server_name`` always, further

- ``verification``: ``token``, and by mail ``link``, ``lifetime_hours`` and ``lifetime_minutes`` (0 where whole hours
  say it as well), by SMS ``domain``;
- ``invitation``: ``link``, and perhaps ``inviter_name``, ``room_name`` and ``room_type`` (empty if not known).
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

_SHIPPED = Path(__file__).with_name("templates")
_LAST_RESORT = "en"
_SUBJECT = "Subject:"
# What the inviter's side writes and our mail says; nothing else in a mail is of a stranger's making.
_NAMES = ("inviter_name", "room_name")
_MAX_NAME_LENGTH = 60
_INVISIBLE = ("Cc", "Cf", "Co", "Cs")
_JOINERS = "\u200c\u200d"  # Persian, Hindi and emoji are misspelt without them
_SCHEME = re.compile(r"[^\s:]*://+")
_DOT_IN_WORD = re.compile(r"(?<=\S)[.\u2024\u3002\ufe52\uff0e\uff61](?=\S)")
_QUALITY = re.compile(r"q\s*=\s*([01](?:\.\d{0,3})?)")
_MAX_HEADER_LENGTH = 500
_SAMPLES: dict[str, dict[str, Any]] = {
    "verification": {
        "server_name": "example.org",
        "token": "123456",
        "link": "https://example.org/",
        "lifetime_hours": 24,
        "lifetime_minutes": 0,
        "domain": "example.org",
    },
    "invitation": {"server_name": "example.org", "link": "https://example.org/", "inviter_name": "Alice"},
}


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
        subject, _, text = self._environment.get_template(f"{spoken}/{message}.txt").render(values).partition("\n")
        if not subject.startswith(_SUBJECT):
            raise ValueError(f'the first line of {spoken}/{message}.txt is not "Subject: …"')
        subject = subject.removeprefix(_SUBJECT).strip()
        html = f"{spoken}/{message}.html"
        return Mail(
            subject,
            text.strip() + "\n",
            self._environment.get_template(html).render(values, subject=subject) if html in self._files else None,
        )

    def sms(self, message: str, language: str | None, context: Mapping[str, Any]) -> str:
        """Raises ``jinja2.TemplateError`` if a template is at fault."""
        spoken = self.language_of(f"{message}.sms.txt", language)
        return self._environment.get_template(f"{spoken}/{message}.sms.txt").render(_values(spoken, context)).strip()

    def language_of(self, file: str, wanted: str | None) -> str:
        """Of the languages in which there is this file, the one for a reader who wants ``wanted``."""
        spoken = self._languages(file)
        return preferred_language(wanted, spoken) or preferred_language(self._language, spoken) or _LAST_RESORT

    def problems(self) -> list[str]:
        """What is wrong with the templates, each tried with plausible values: a sentence each."""
        found = []
        for message, context in _SAMPLES.items():
            for render, file in ((self.mail, f"{message}.txt"), (self.sms, f"{message}.sms.txt")):
                for language in sorted(self._languages(file)):
                    try:
                        render(message, language, context)
                    except (TemplateError, ValueError) as error:
                        found.append(f"The template {language}/{file} (or one beside it) fails: {error}")
        return found

    def _languages(self, file: str) -> set[str]:
        return {folder for folder, _, name in (path.rpartition("/") for path in self._files) if name == file}


def preferred_language(wanted: str | None, available: Collection[str]) -> str | None:
    """The one of ``available`` that serves best who wants ``wanted``, or None.

    ``wanted`` is a language tag or an Accept-Language header (RFC 9110, 12.5.4), looked up as RFC 4647, 3.4 says:
    ``fr-CA`` is served by ``fr``. Beyond it, ``pt`` and ``pt-PT`` are served by ``pt-BR`` before any other language.
    """
    by_tag = {tag.lower(): tag for tag in sorted(available)}
    for tag in _by_preference(wanted or ""):
        subtags = tag.split("-")
        for length in range(len(subtags), 0, -1):
            if found := by_tag.get("-".join(subtags[:length])):
                return found
        for candidate, found in by_tag.items():
            if candidate.startswith(f"{subtags[0]}-"):
                return found
    return None


def _by_preference(wanted: str) -> list[str]:
    qualities: dict[str, float] = {}
    for item in wanted[:_MAX_HEADER_LENGTH].lower().split(","):
        tag, _, quality = item.partition(";")
        match = _QUALITY.fullmatch(quality.strip())
        qualities.setdefault(tag.strip().replace("_", "-"), float(match[1]) if match else 1.0)
    return sorted((tag for tag, quality in qualities.items() if quality > 0), key=lambda tag: -qualities[tag])


def plain_name(name: str) -> str:
    """A name that a stranger chose, made fit to stand in our mail.

    An invitation is a way to have somebody else's words delivered under our name: a room called "Your account is
    locked, see https://…" passes every filter that trusts us. So a name is one line of a name's length, without the
    invisible characters that reorder or hide text, and without anything that mail programs turn into a link: they look
    for "://" and for a dot inside a word. The dot becomes "·", so that an honest "matrix.org" stays readable.
    """
    visible = "".join(
        character
        for character in name[: 20 * _MAX_NAME_LENGTH]
        if character.isspace() or character in _JOINERS or unicodedata.category(character) not in _INVISIBLE
    )
    unlinked = _DOT_IN_WORD.sub("·", _SCHEME.sub("", visible))
    line = " ".join(unlinked.split())
    return line if len(line) <= _MAX_NAME_LENGTH else line[: _MAX_NAME_LENGTH - 1].rstrip() + "…"


def _values(language: str, context: Mapping[str, Any]) -> dict[str, Any]:
    names = {key: plain_name(context.get(key) or "") for key in _NAMES}
    return {"room_type": "", **context, **names, "language": language}
