"""`identity-server peers`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import nacl.signing
import typer
from rich.markup import escape
from rich.table import Table

from identity_server.cli.context import console, errors, fail, open_database, run, settings_of
from identity_server.cli.peer_arguments import (
    EmailDomains,
    Homeservers,
    MaxStatements,
    Mediums,
    Name,
    NumberPrefixes,
    Yes,
    base_url,
    changed,
    key_bytes,
    lifetime,
    server_name,
)
from identity_server.cli.peer_words import date, in_words, plain, print_keys, print_peer, say, state_of
from identity_server.identity.associations import store as associations
from identity_server.identity.replication import store
from identity_server.identity.replication.client import PeerClient, PeerRefused
from identity_server.identity.replication.keys import BadKeys
from identity_server.identity.replication.membership import AlreadyPeer, add_peer, introduce
from identity_server.identity.replication.models import NATIVE, SYDENT, Peer
from identity_server.identity.replication.page import read_head
from identity_server.identity.replication.retire import retire
from identity_server.identity.replication.rules import Rules
from identity_server.identity.replication.sydent.wire import KEY_ID
from identity_server.identity.signing.keyring import load_keyring
from identity_server.matrix.http import Unreachable
from identity_server.matrix.signing import VerifyKey
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.federation import open_federation
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import Settings

_SHOWN_SET_ASIDE = 20

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="The identity servers whose proofs you trust.",
)


@app.command("add")
def add(
    context: typer.Context,
    name: Name,
    url: Annotated[
        str,
        typer.Argument(help="Where it is reached, such as https://id.example.org; with --sydent, by TLS."),
    ] = "",
    key: Annotated[str | None, typer.Option(help="The public key (base64) that it must have, not to be asked.")] = None,
    sydent: Annotated[
        bool, typer.Option("--sydent", help="It runs Sydent, with this --key; NAME is that of its certificate.")
    ] = False,
    yes: Yes = False,
    expires: Annotated[str | None, typer.Option(help="For how long it is trusted, such as 90d.")] = None,
    medium: Mediums = None,
    email_domain: EmailDomains = None,
    number_prefix: NumberPrefixes = None,
    homeserver: Homeservers = None,
    max_statements: MaxStatements = None,
) -> None:
    """Trust another identity server: fetch its keys, show their fingerprints, ask. Its operator does the same."""
    rules = changed(Rules(), medium, email_domain, number_prefix, homeserver, max_statements)
    settings, name, lifetime_ms = settings_of(context), server_name(name), lifetime(expires)
    url = "" if sydent and not url else base_url(url)
    if name in settings.our_names:
        fail(f"{name} is this server")
    if sydent:
        if key is None:
            fail("Sydent does not say its key: give it with --key")
        run(_add_sydent(settings, name, url, rules, key, lifetime_ms))
    else:
        run(_add_native(settings, name, url, rules, key, yes, lifetime_ms))


@app.command("list")
def list_peers(context: typer.Context) -> None:
    """Show the peers, and how far they and this server are behind each other (in statements)."""
    run(_list(settings_of(context)))


@app.command("status")
def status(
    context: typer.Context, name: Annotated[str | None, typer.Argument(help="Of one; without, of all.")] = None
) -> None:
    """Show everything about a peer: alarm, last error, keys, rules, and which statements were set aside, why."""
    run(_status(settings_of(context), name))


@app.command("pause")
def pause(context: typer.Context, name: Name) -> None:
    """Send a peer nothing and take nothing from it; what it has stated stays answered."""
    run(_pause(settings_of(context), name))


@app.command("resume")
def resume(context: typer.Context, name: Name, yes: Yes = False) -> None:
    """Go on with a peer that was paused, by you or by an alarm, or that waits for its next try."""
    run(_resume(settings_of(context), name, yes))


@app.command("rules")
def rules(
    context: typer.Context,
    name: Name,
    anything: Annotated[bool, typer.Option("--anything", help="Drop the rules that it has.")] = False,
    medium: Mediums = None,
    email_domain: EmailDomains = None,
    number_prefix: NumberPrefixes = None,
    homeserver: Homeservers = None,
    max_statements: MaxStatements = None,
) -> None:
    """Show what a peer may speak about, or change it. It counts for what the peer states from then on; to apply it to
    all that it ever stated, remove the peer and add it again."""

    def change(held: Rules) -> Rules:
        kept = Rules() if anything else held
        return changed(kept, medium, email_domain, number_prefix, homeserver, max_statements)

    run(_rules(settings_of(context), name, change))


@app.command("remove")
def remove(
    context: typer.Context,
    name: Name,
    keep: Annotated[bool, typer.Option("--keep", help="What it has stated stays answered.")] = False,
) -> None:
    """Trust a peer no more; what it has stated stops being answered."""
    run(_remove(settings_of(context), name, keep))


@app.command("fingerprint")
def show_fingerprints(context: typer.Context) -> None:
    """Show the fingerprints of this server's own keys, for the operator of a peer to compare."""
    settings = settings_of(context)
    try:
        keyring = load_keyring(settings.server.name, settings.signing_key_file, SystemEntropy())
    except (OSError, ValueError) as error:
        fail(str(error))
    print_keys([key.verify_key for key in keyring.keys])


async def _add_native(
    settings: Settings, name: str, url: str, rules: Rules, wanted: str | None, yes: bool, lifetime_ms: int | None
) -> None:
    try:
        async with _client(settings) as client:
            keys = await introduce(client, url, name)
    except (BadKeys, PeerRefused, Unreachable) as error:
        fail(f"{url} could not be asked for its keys: {escape(plain(str(error)))}")
    say(f"{url} says that it is {name}, with")
    print_keys(keys)
    if url.startswith("http:"):
        errors.print("This way to it is not encrypted: whoever is on it reads the addresses.", soft_wrap=True)
    if wanted is not None:
        if not any(key.key.encode() == key_bytes(wanted) for key in keys):
            fail("the key that was asked for is not among them")
    elif not yes:
        say("Its operator sees the same with `identity-server peers fingerprint`.")
        typer.confirm("Did you compare them, and is it to be trusted?", abort=True)
    await _trust(settings, name, url, keys, rules, lifetime_ms, NATIVE)
    say("Its operator adds this server with")
    say(f"identity-server peers add {settings.server.name} {settings.public_base_url}")


async def _add_sydent(settings: Settings, name: str, url: str, rules: Rules, key: str, lifetime_ms: int | None) -> None:
    keys = [VerifyKey(KEY_ID, nacl.signing.VerifyKey(key_bytes(key)))]
    await _trust(settings, name, url, keys, rules, lifetime_ms, SYDENT)


async def _trust(
    settings: Settings,
    name: str,
    url: str,
    keys: list[VerifyKey],
    rules: Rules,
    lifetime_ms: int | None,
    protocol: str,
) -> None:
    now_ms = SystemClock().now_ms()
    expires_ts = None if lifetime_ms is None else now_ms + lifetime_ms
    async with open_database(settings) as database:
        async with database.reading() as session:
            if await store.find_peer(session, name) is not None:
                fail(f"{name} is a peer already")
        # What was kept when it was a peer before is taken anew, under the rules of now.
        await retire(database, name, settings.server.name)
        async with database.transaction() as session:
            try:
                await add_peer(
                    session, name, url, keys, rules=rules, expires_ts=expires_ts, now_ms=now_ms, protocol=protocol
                )
            except AlreadyPeer as error:
                fail(str(error))
    say(f"{name} is a peer.")


async def _list(settings: Settings) -> None:
    async with open_database(settings) as database:
        async with database.reading() as session:
            peers = await store.peers(session)
            position = (await associations.head(session)).position
        if not peers:
            console.print("There are no peers.")
            return
        async with _client(settings) as client:
            sizes = await asyncio.gather(*(_log_size(client, peer) for peer in peers))
    now_ms = SystemClock().now_ms()
    table = Table("peer", "URL", "state", "it lacks", "we lack", "next try", "last error")
    for peer, size in zip(peers, sizes, strict=True):
        table.add_row(
            peer.name,
            peer.base_url,
            state_of(peer, now_ms),
            str(position - peer.sent_position),
            "" if peer.protocol == SYDENT else "?" if size is None else str(max(size - peer.taken_position, 0)),
            date(peer.next_try_ts) if peer.next_try_ts > now_ms else "",
            escape(plain(peer.last_error or "")),
        )
    console.print(table)


async def _status(settings: Settings, name: str | None) -> None:
    async with open_database(settings) as database, database.reading() as session:
        peers = [await _found(database, name)] if name is not None else await store.peers(session)
        position = (await associations.head(session)).position
        if not peers:
            console.print("There are no peers.")
        for peer in peers:
            keys = await store.peer_keys(session, peer.name)
            aside = await store.all_set_aside(session, peer.name, _SHOWN_SET_ASIDE + 1)
            print_peer(peer, position, keys)
            for refused in aside[:_SHOWN_SET_ASIDE]:
                whose = "our statement, refused by it" if refused.of_ours else "its statement, refused by us"
                say(f"  set aside: {refused.position} ({whose}): {plain(refused.reason)}")
            if len(aside) > _SHOWN_SET_ASIDE:
                say("  set aside: and more, older than these")


async def _pause(settings: Settings, name: str) -> None:
    async with open_database(settings) as database:
        await _found(database, name)
        async with database.transaction() as session:
            await store.change_peer(session, name, paused=True)
    say(f"{name} is paused.")


async def _resume(settings: Settings, name: str, yes: bool) -> None:
    async with open_database(settings) as database:
        peer = await _found(database, name)
        if peer.alarm and not yes:
            say(f"There is an alarm: {peer.alarm}.")
            say(
                "What it signs now contradicts what it signed before. Unless its log is again as it was, the alarm "
                "will be raised again; to begin anew with what it says now, remove it and add it."
            )
            typer.confirm("Go on with it nevertheless?", abort=True)
        async with database.transaction() as session:
            await store.change_peer(session, name, paused=False, alarm=None, failures=0, last_error=None, next_try_ts=0)
    say(f"{name} goes on.")


async def _rules(settings: Settings, name: str, change: Callable[[Rules], Rules]) -> None:
    async with open_database(settings) as database:
        peer = await _found(database, name)
        held = Rules.model_validate_json(peer.rules)
        changed = change(held)
        if changed != held:
            async with database.transaction() as session:
                await store.change_peer(session, name, rules=changed.model_dump_json())
    say(in_words(changed))


async def _remove(settings: Settings, name: str, keep: bool) -> None:
    async with open_database(settings) as database:
        await _found(database, name)
        async with database.transaction() as session:
            # A server that runs takes no more from it from here on.
            await store.change_peer(session, name, paused=True)
        count = 0 if keep else await retire(database, name, settings.server.name)
        async with database.transaction() as session:
            await store.remove_peer(session, name)
    say(f"{name} is no peer any more.")
    say("What it stated stays answered." if keep else f"{count} addresses are answered no more as it stated them.")


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[PeerClient]:
    keyring = load_keyring(settings.server.name, settings.signing_key_file, SystemEntropy())
    async with open_federation(settings.federation, SystemClock()) as federation:
        yield PeerClient(federation.http, keyring)


async def _log_size(client: PeerClient, peer: Peer) -> int | None:
    """How long the peer's log is, as it says; None if it does not."""
    if peer.protocol == SYDENT:
        return None
    try:
        return read_head(await client.head(peer.base_url)).size
    except (PeerRefused, Unreachable, ValueError):
        return None


async def _found(database: Database, name: str) -> Peer:
    async with database.reading() as session:
        peer = await store.find_peer(session, name)
    if peer is None:
        fail(f"there is no peer {name}")
    return peer
