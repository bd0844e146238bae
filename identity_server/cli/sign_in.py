"""Who asks: from what a person types to an account at an identity server, terms and all."""

import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import typer
from rich.table import Table
from rich.text import Text

from identity_server.cli.context import console, fail
from identity_server.matrix.homeserver_client import Discovered, HomeserverClient, discover
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.identity_client import IdentityClient, Policy
from identity_server.matrix.json_api import JsonApi, Refused

_TIMEOUT = httpx.Timeout(60, connect=10)  # seconds; a server may wait that long for its mail server
_DEVICE_NAME = "identity-server client"


@dataclass(frozen=True)
class Access:
    """Where to go, and as whom."""

    server: str
    homeserver: str
    user: str
    password: str
    access_token: str
    token: str
    accept_terms: bool


@asynccontextmanager
async def signed_in(access: Access) -> AsyncIterator[tuple[IdentityClient, str]]:
    """A client with an access token and terms accepted, and whose token it is; what was opened for it is closed."""
    async with httpx.AsyncClient(verify=ssl.create_default_context(), timeout=_TIMEOUT) as http:
        homeserver: HomeserverClient | None = None
        client = IdentityClient(JsonApi(http, _url(access.server), access.token or None))
        try:
            if not access.token:
                homeserver, openid_token = await _vouched_for(access, http)
                if not access.server:
                    client.api.base_url = await _recommended(access)
                await client.register(openid_token)
            elif not access.server:
                fail("--token needs --server, too")
            yield client, await _account(client, accept=access.accept_terms)
        finally:
            with contextlib.suppress(Refused, Unreachable):
                if not access.token and client.api.token:
                    await client.log_out()
            with contextlib.suppress(Refused, Unreachable):
                if homeserver is not None and not access.access_token:
                    await homeserver.log_out()


async def _vouched_for(access: Access, http: httpx.AsyncClient) -> tuple[HomeserverClient, dict[str, Any]]:
    """The homeserver, and the OpenID token that it gives."""
    if not access.user and not access.access_token:
        fail("say who you are: --user, or --access-token with --homeserver, or --token")
    homeserver = HomeserverClient(JsonApi(http, _url(access.homeserver) or (await _discovered(access)).homeserver))
    if access.access_token:
        homeserver.api.token = access.access_token
        return homeserver, await homeserver.openid_token(await homeserver.who_am_i())
    try:
        password = access.password or typer.prompt(f"Password of {access.user}", hide_input=True)
    except typer.Abort:
        fail("no password")
    user_id = await homeserver.log_in(access.user, password, _DEVICE_NAME)
    return homeserver, await homeserver.openid_token(user_id)


async def _recommended(access: Access) -> str:
    recommended = (await _discovered(access)).identity_server
    if recommended is None:
        fail("the homeserver recommends no identity server: say which, with --server")
    return recommended


async def _discovered(access: Access) -> Discovered:
    """What the homeserver, or the domain of the user ID, recommends."""
    if not access.homeserver:
        try:
            domain = domain_of(access.user)
        except ValueError:
            fail("say which homeserver: --homeserver, or a whole user ID such as @alice:example.org")
    base_url = _url(access.homeserver or domain.partition(":")[0])
    async with httpx.AsyncClient(verify=ssl.create_default_context(), timeout=_TIMEOUT, follow_redirects=True) as http:
        found = await discover(JsonApi(http, base_url))
    if found is None:
        fail(f"{base_url} says nothing about its servers: give --homeserver and --server")
    return found


async def _account(client: IdentityClient, *, accept: bool) -> str:
    """Whose account it is; the terms of service are accepted first, if need be."""
    try:
        return await client.account()
    except Refused as error:
        if error.errcode != "M_TERMS_NOT_SIGNED":
            raise
    texts = [_in_our_language(policy) for policy in await client.terms() if policy.texts]
    console.print("The identity server asks you to accept:")
    table = Table.grid(padding=(0, 2))
    for text in texts:
        table.add_row("•", plain(text.get("name", "")), Text(plain(text["url"]), "cyan"))
    console.print(table)
    if not accept:
        try:
            accept = typer.confirm("Do you accept?")
        except typer.Abort:
            print()
        if not accept:
            fail("not without the terms of service; --accept-terms accepts them")
    await client.accept_terms(text["url"] for text in texts)
    return await client.account()


def _in_our_language(policy: Policy) -> dict[str, str]:
    ours = os.environ.get("LANG", "")[:2]
    for language in (ours, "en", *policy.texts):
        if language in policy.texts:
            return dict(policy.texts[language])
    raise ValueError("a policy without texts")


def _url(server: str) -> str:
    return server if not server or "://" in server else f"https://{server}"


def plain(text: str) -> str:
    """``text``, as a server sent it, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
