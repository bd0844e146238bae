"""`identity-server client`: what a person asks of an identity server, without an app."""

from collections.abc import Coroutine, Sequence
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import phonenumbers
import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from identity_server.cli.context import console, fail, run
from identity_server.cli.sign_in import Access, plain, signed_in
from identity_server.matrix.errors import InvalidAddress, MatrixError
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identity_client import IdentityClient, NoCommonAlgorithm
from identity_server.matrix.json_api import Refused
from identity_server.matrix.threepid import EMAIL, MSISDN, Threepid, canonical
from identity_server.runtime.tokens import SystemEntropy

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Ask an identity server, as a person with a Matrix account."
)


_SECRET_LENGTH = 43
_TRIES = 3

_WHO = "Who you are"


class Medium(StrEnum):
    email = EMAIL
    msisdn = MSISDN


Server = Annotated[
    str,
    typer.Option(
        envvar="IDENTITY_CLIENT_SERVER",
        metavar="URL",
        help="The identity server; by default the one that the homeserver recommends.",
    ),
]
Homeserver = Annotated[
    str,
    typer.Option(
        envvar="IDENTITY_CLIENT_HOMESERVER",
        metavar="URL",
        help="Your homeserver; by default the one that the user ID leads to.",
        rich_help_panel=_WHO,
    ),
]
User = Annotated[
    str,
    typer.Option(
        envvar="IDENTITY_CLIENT_USER",
        metavar="USER",
        help="Your user ID; with --homeserver, its first part is enough.",
        rich_help_panel=_WHO,
    ),
]
Password = Annotated[
    str,
    typer.Option(
        envvar="IDENTITY_CLIENT_PASSWORD",
        metavar="PASSWORD",
        help="Asked for, unless it is given. Others on this machine can see it here: better use the variable.",
        rich_help_panel=_WHO,
    ),
]
AccessToken = Annotated[
    str,
    typer.Option(
        envvar="IDENTITY_CLIENT_ACCESS_TOKEN",
        metavar="TOKEN",
        help="An access token of the homeserver, instead of user and password.",
        rich_help_panel=_WHO,
    ),
]
Token = Annotated[
    str,
    typer.Option(
        envvar="IDENTITY_CLIENT_TOKEN",
        metavar="TOKEN",
        help="An access token of the identity server, instead of all that.",
        rich_help_panel=_WHO,
    ),
]
AcceptTerms = Annotated[bool, typer.Option("--accept-terms", help="Accept the terms of service without being asked.")]
Code = Annotated[str, typer.Option(metavar="CODE", help="The code from the message, instead of being asked for it.")]
Sid = Annotated[str, typer.Option("--sid", metavar="SID", help="Go on with a validation that was begun before.")]
ClientSecret = Annotated[str, typer.Option(metavar="SECRET", help="The secret that belongs to --sid.")]
Kind = Annotated[Medium | None, typer.Argument(show_default=False, help="What kind of address it is.")]
AddressParts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ADDRESS…",
        show_default=False,
        help="alice@example.org, or GB 07700900001, or +447700900001.",
    ),
]


class Validation(NamedTuple):
    medium: str
    sid: str
    client_secret: str


@app.command()
def verify(
    medium: Kind = None,
    address: AddressParts = None,
    code: Code = "",
    sid: Sid = "",
    client_secret: ClientSecret = "",
    server: Server = "",
    homeserver: Homeserver = "",
    user: User = "",
    password: Password = "",
    access_token: AccessToken = "",
    token: Token = "",
    accept_terms: AcceptTerms = False,
) -> None:
    """Prove that an address is yours: a message is sent there, with a code that you enter here.

    For example: verify email alice@example.org, or verify msisdn GB 07700900001.
    """
    if medium is None:
        fail("say what to verify: email ADDRESS, or msisdn COUNTRY NUMBER")
    access = Access(server, homeserver, user, password, access_token, token, accept_terms)
    _run(_verify(access, medium, address or [], code, _begun(medium, sid, client_secret)))


@app.command()
def bind(
    medium: Kind = None,
    address: AddressParts = None,
    code: Code = "",
    sid: Sid = "",
    client_secret: ClientSecret = "",
    server: Server = "",
    homeserver: Homeserver = "",
    user: User = "",
    password: Password = "",
    access_token: AccessToken = "",
    token: Token = "",
    accept_terms: AcceptTerms = False,
) -> None:
    """Let others find you by an address: it is verified, and published as yours.

    For example: bind email alice@example.org; or, verified before, bind --sid SID --client-secret SECRET.
    """
    begun = _begun(medium, sid, client_secret)
    if medium is None and begun is None:
        fail("say what to bind: email ADDRESS, msisdn COUNTRY NUMBER, or --sid with --client-secret")
    access = Access(server, homeserver, user, password, access_token, token, accept_terms)
    _run(_bind(access, medium, address or [], code, begun))


@app.command()
def lookup(
    addresses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ADDRESS…", show_default=False, help="Email addresses, and phone numbers that begin with +."
        ),
    ] = None,
    file: Annotated[
        typer.FileText | None,
        typer.Option("--file", "-f", metavar="FILE", help="With more of them, one a line; - is standard input."),
    ] = None,
    server: Server = "",
    homeserver: Homeserver = "",
    user: User = "",
    password: Password = "",
    access_token: AccessToken = "",
    token: Token = "",
    accept_terms: AcceptTerms = False,
) -> None:
    """Find out whose addresses these are. They are hashed here; the server never sees them."""
    typed = [*(addresses or []), *(line.strip() for line in file or () if line.strip())]
    if not typed:
        fail("say which addresses to look up")
    access = Access(server, homeserver, user, password, access_token, token, accept_terms)
    _run(_lookup(access, typed))


async def _verify(access: Access, medium: Medium, address: Sequence[str], code: str, begun: Validation | None) -> None:
    async with signed_in(access) as (client, _user_id):
        validation = await _validated(client, medium, address, code, begun)
        proven = await client.validated_threepid(validation.sid, validation.client_secret)
        console.print(Text(f"✓ {plain(proven.address)} is yours.", "green"))
        table = Table.grid(padding=(0, 2))
        table.add_row("sid", validation.sid)
        table.add_row("client_secret", validation.client_secret)
        console.print(table)
        console.print(
            "To let others find you by it: identity-server client bind --sid … --client-secret …", style="dim"
        )


async def _bind(
    access: Access, medium: Medium | None, address: Sequence[str], code: str, begun: Validation | None
) -> None:
    async with signed_in(access) as (client, user_id):
        if medium is not None:
            begun = await _validated(client, medium, address, code, begun)
        assert begun is not None, "bind() has seen to it"
        association = await client.bind(begun.sid, begun.client_secret, user_id)
        bound = plain(str(association.get("address", "The address")))
        console.print(Text(f"✓ {bound} now leads to {plain(user_id)}.", "green"))


async def _lookup(access: Access, typed: Sequence[str]) -> None:
    wanted = {address: _threepid(address) for address in typed}
    async with signed_in(access) as (client, _user_id):
        with console.status("Looking them up …"):
            found = await client.lookup(wanted.values())
    if not console.is_terminal:
        for address, threepid in wanted.items():
            print(address, plain(found.get(threepid, "")), sep="\t")
        return
    table = Table("address", "Matrix user ID", box=None, padding=(0, 3, 0, 0), header_style="bold")
    for address, threepid in wanted.items():
        owner = found.get(threepid)
        table.add_row(Text(address), Text(plain(owner), "green") if owner else Text("not found", "dim"))
    console.print(table)


async def _validated(
    client: IdentityClient, medium: Medium, address: Sequence[str], code: str, begun: Validation | None
) -> Validation:
    """A validation that has succeeded; begun by a message, unless it was before."""
    validation = begun or await _begin(client, medium, address)
    if begun and not code and await _is_validated(client, begun):
        return begun
    for tries_left in reversed(range(1 if code else _TRIES)):
        entered = code or _entered(validation)
        try:
            # Without a code: the link in the message may have been opened.
            if entered:
                await client.submit_token(medium, validation.sid, validation.client_secret, entered)
            else:
                await client.validated_threepid(validation.sid, validation.client_secret)
        except Refused as error:
            if not tries_left or error.errcode not in ("M_TOKEN_INCORRECT", "M_SESSION_NOT_VALIDATED"):
                raise
            console.print(Text(_sentence(error), "yellow"))
        else:
            break
    return validation


async def _is_validated(client: IdentityClient, validation: Validation) -> bool:
    try:
        await client.validated_threepid(validation.sid, validation.client_secret)
    except Refused as error:
        if error.errcode != "M_SESSION_NOT_VALIDATED":
            raise
        return False
    return True


async def _begin(client: IdentityClient, medium: Medium, address: Sequence[str]) -> Validation:
    secret = SystemEntropy().token(_SECRET_LENGTH)
    if medium is Medium.email:
        if len(address) != 1:
            fail("say which email address")
        sid = await client.request_email_token(address[0], secret)
        console.print(Text(f"A mail is on its way to {address[0]}."))
    else:
        country, number = _as_dialled(address)
        sid = await client.request_msisdn_token(country, number, secret)
        console.print(Text(f"A message is on its way to {number}."))
    return Validation(medium, sid, secret)


def _begun(medium: Medium | None, sid: str, client_secret: str) -> Validation | None:
    if bool(sid) != bool(client_secret):
        fail("--sid and --client-secret belong together")
    return Validation(medium or "", sid, client_secret) if sid else None


def _entered(validation: Validation) -> str:
    question = "Code from the message"
    if validation.medium == EMAIL:
        question += " (or just Enter, once you have opened its link)"
    try:
        return str(typer.prompt(question, default="", show_default=False)).strip()
    except typer.Abort:
        print()
        fail(
            f"no code: go on later with verify {validation.medium} --code CODE "
            f"--sid {escape(validation.sid)} --client-secret {validation.client_secret}"
        )


def _as_dialled(parts: Sequence[str]) -> tuple[str, str]:
    """Country and number, of which the first may be missing if the number says it itself."""
    match parts:
        case [country, *number] if number and country.isalpha() and len(country) == 2:
            pass
        case [*number] if number and number[0].startswith("+"):
            try:
                parsed = phonenumbers.parse(" ".join(number))
            except phonenumbers.NumberParseException:
                fail("this is no phone number")
            country = phonenumbers.region_code_for_number(parsed) or "ZZ"
        case _:
            fail("say which phone number: GB 07700900001, or +447700900001")
    return country.upper(), " ".join(number)


def _threepid(address: str) -> Threepid:
    try:
        if "@" in address:
            return canonical(EMAIL, address)
        if not address.startswith("+"):
            raise InvalidAddress("begins neither with + nor holds an @")
        return canonical(MSISDN, "".join(letter for letter in address if letter not in " -./()"))
    except MatrixError:
        fail(f"{escape(plain(address))} is neither an email address nor a phone number that begins with +")


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        run(work)
    except (Refused, Unreachable, MatrixError, NoCommonAlgorithm) as error:
        fail(escape(_sentence(error)))


def _sentence(error: Exception) -> str:
    sentence = plain(str(error))
    if isinstance(error, Refused) and isinstance(wait_ms := error.body.get("retry_after_ms"), int):
        sentence += f"; again in {-(-wait_ms // 1000)} seconds"
    return sentence
