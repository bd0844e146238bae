"""Which of our languages a reader would like best."""

from typing import Literal, get_args

Language = Literal["en", "fr", "de"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
DEFAULT: Language = "en"

_MAX_HEADER_CHARACTERS = 1000


def choose(accept_language: str | None) -> Language:
    """The language that an Accept-Language header (RFC 9110, section 12.5.4) prefers among ours; English without one.

    A regional variant counts as its language; what cannot be read is passed over.
    """
    best, best_quality = DEFAULT, 0.0
    for entry in (accept_language or "")[:_MAX_HEADER_CHARACTERS].split(","):
        language_range, _, parameters = entry.partition(";")
        language = _ours(language_range.strip().lower())
        quality = _quality(parameters)
        if language is not None and quality > best_quality:
            best, best_quality = language, quality
    return best


def _ours(language_range: str) -> Language | None:
    if language_range == "*":
        return DEFAULT
    primary = language_range.partition("-")[0]
    return next((language for language in LANGUAGES if language == primary), None)


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if not name:
        return 1.0
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if name.strip().lower() == "q" and 0.0 <= quality <= 1.0 else 0.0
