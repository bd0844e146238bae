"""What is said to `identity-server peers`: its options, and what they mean."""

from typing import Annotated
from urllib.parse import urlsplit

import pydantic
import typer

from identity_server.cli.context import fail
from identity_server.identity.replication.rules import Rules
from identity_server.matrix.identifiers import split_server_name
from identity_server.matrix.signing import decode_key
from identity_server.settings import Duration

Name = Annotated[str, typer.Argument(help="The peer's name: what it has as server.name.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Mediums = Annotated[
    list[str] | None, typer.Option("--medium", help="It may speak about email or msisdn only; may be repeated.")
]
EmailDomains = Annotated[
    list[str] | None, typer.Option("--email-domain", help="Of email addresses, about those of this domain only.")
]
NumberPrefixes = Annotated[
    list[str] | None, typer.Option("--number-prefix", help="Of phone numbers, about those that begin so only.")
]
Homeservers = Annotated[
    list[str] | None, typer.Option("--homeserver", help="It may bind to users of this homeserver only.")
]
MaxStatements = Annotated[
    int | None, typer.Option("--max-statements", min=0, help="How many of its statements are taken at all.")
]


def changed(
    held: Rules,
    mediums: list[str] | None,
    email_domains: list[str] | None,
    number_prefixes: list[str] | None,
    homeservers: list[str] | None,
    max_statements: int | None,
) -> Rules:
    """``held`` with what was given in place of what it says."""
    if unknown := set(mediums or ()) - {"email", "msisdn"}:
        fail(f"the medium is email or msisdn, not {', '.join(sorted(unknown))}")
    prefixes = [prefix.removeprefix("+") for prefix in number_prefixes or ()]
    if not all(prefix.isdecimal() and prefix.isascii() for prefix in prefixes):
        fail("a number prefix is digits, beginning with the country's calling code")
    given = {
        "mediums": mediums,
        "email_domains": [domain.lower() for domain in email_domains or ()],
        "number_prefixes": prefixes,
        "homeservers": [server_name(name) for name in homeservers or ()],
    }
    changes: dict[str, object] = {field: tuple(values) for field, values in given.items() if values}
    if max_statements is not None:
        changes["max_statements"] = max_statements
    return held.model_copy(update=changes)


def server_name(value: str) -> str:
    try:
        split_server_name(value)
    except ValueError:
        fail(f"{value} is no server name")
    return value


def base_url(value: str) -> str:
    parsed = urlsplit(value)
    if parsed.scheme not in ("http", "https") or not parsed.hostname or parsed.query or parsed.fragment:
        fail("the URL is that of an identity server, such as https://id.example.org")
    return value.rstrip("/")


def lifetime(value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return pydantic.TypeAdapter(Duration).validate_python(value)
    except pydantic.ValidationError:
        fail("write how long it is trusted as 90d, 12h or 30m")


def key_bytes(base64: str) -> bytes:
    try:
        return decode_key(base64)
    except ValueError:
        fail("the key is 32 bytes in base64, as `identity-server keys list` shows it")
