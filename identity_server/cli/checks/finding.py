"""What a check has found out."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """``text`` says what is so; ``mend`` what to do about it, unless it is fine."""

    level: Literal["fine", "warning", "problem"]
    subject: str
    text: str
    mend: str = ""


def fine(subject: str, text: str) -> Finding:
    return Finding("fine", subject, text)


def warning(subject: str, text: str, mend: str) -> Finding:
    """The server works, but not as well or as safely as it could."""
    return Finding("warning", subject, text, mend)


def problem(subject: str, text: str, mend: str) -> Finding:
    """Something that people need does not work."""
    return Finding("problem", subject, text, mend)
