"""What the chapters of the tour share: the people, the world they are in, and the promises that they hold it to."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, NamedTuple

import httpx

from identity_server.demo.pages.inbox import Message
from identity_server.demo.rooms_client import RoomsClient
from identity_server.demo.world import World
from identity_server.matrix.homeserver_client import HomeserverClient
from identity_server.matrix.identity_client import IdentityClient
from identity_server.matrix.json_api import JsonApi, Refused
from identity_server.runtime.tokens import Entropy


class Unexpected(Exception):
    """A server answered otherwise than it should."""


class Person:
    """Somebody with a client: at ``homeserver_url``, and at the identity server at ``identity_server_url``."""

    def __init__(self, http: httpx.AsyncClient, homeserver_url: str, identity_server_url: str) -> None:
        api = JsonApi(http, homeserver_url)
        self.homeserver = HomeserverClient(api)
        self.rooms = RoomsClient(api)
        self.identity = IdentityClient(JsonApi(http, identity_server_url))
        self.user_id = ""
        self.openid_token: dict[str, Any] = {}


@dataclass
class Story:
    """The people, and what the next step needs of the one before."""

    world: World
    http: httpx.AsyncClient
    entropy: Entropy
    alice: Person
    bob: Person
    sessions: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By medium, the ``sid`` and ``client_secret`` of Alice's validation."""
    mail: Message | None = None
    page: httpx.Response | None = None
    """What the link in the mail led to."""
    room_id: str = ""
    read: set[str] = field(default_factory=set)
    """IDs of the messages that have been opened."""

    def note(self, text: str) -> None:
        self.world.journal.note(text)

    async def next_message(self, recipient: str) -> Message:
        """The newest that has not been read. Raises ``TimeoutError`` if none arrives."""
        message = await self.world.inbox.newest_for(recipient, unlike=self.read)
        self.read.add(message.id)
        return message


class Chapter(NamedTuple):
    title: str
    act: Callable[[Story], Awaitable[None]]


class Form(HTMLParser):
    """The first form of a page, as a browser would submit it."""

    def __init__(self) -> None:
        super().__init__()
        self.method = self.action = ""
        self.fields: dict[str, str] = {}

    @classmethod
    def on(cls, page: str) -> "Form":
        form = cls()
        form.feed(page)
        if not form.action:
            raise Unexpected("the page has no form")
        return form

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form" and not self.action:
            self.method, self.action = (values.get("method") or "get").upper(), values.get("action") or ""
        elif tag == "input" and (name := values.get("name")):
            self.fields[name] = values.get("value") or ""


def expect(actual: object, expected: object) -> None:
    if actual != expected:
        raise Unexpected(f"expected {expected!r}, but it is {actual!r}")


async def expect_refusal(errcode: str, call: Awaitable[object]) -> None:
    try:
        await call
    except Refused as error:
        expect(error.errcode, errcode)
    else:
        raise Unexpected(f"expected {errcode}, but the server agreed")
