"""The tour: what a person, an app and the two servers do, step by step, each held to what it promises."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import urljoin

import httpx

from identity_server.demo.journal import Entry
from identity_server.demo.world import World
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.homeserver_client import HomeserverClient
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identity_client import IdentityClient, NoCommonAlgorithm
from identity_server.matrix.json_api import JsonApi, Refused
from identity_server.matrix.signing import InvalidSignature
from identity_server.matrix.threepid import EMAIL, MSISDN, Threepid
from identity_server.runtime.tokens import Entropy

EMAIL_ADDRESS = "alice@example.org"
# Of the range that Ofcom keeps free for fiction.
COUNTRY, PHONE_NUMBER, MSISDN_ADDRESS = "GB", "07700 900001", "447700900001"
PASSWORDS = {"alice": "wonderland-1865", "bob": "builder-1998"}

_TIMEOUT_SECONDS = 15


class Unexpected(Exception):
    """A server answered otherwise than it should."""


@dataclass
class Person:
    homeserver: HomeserverClient
    identity: IdentityClient
    user_id: str = ""
    openid_token: dict[str, Any] = field(default_factory=dict)


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
    page: httpx.Response | None = None
    """What the link in the mail led to."""

    def note(self, text: str) -> None:
        self.world.journal.note(text)


class Chapter(NamedTuple):
    title: str
    act: Callable[[Story], Awaitable[None]]


async def run_tour(
    world: World, entropy: Entropy, chapters: Sequence[Chapter], *, on_step: Callable[[Entry], None]
) -> bool:
    """Whether every step went as it should; the first that does not is the last. ``on_step`` sees each twice: when it
    begins, and when it has ended.
    """
    entries = world.journal.plan(chapter.title for chapter in chapters)
    async with _story(world, entropy) as story:
        for chapter, entry in zip(chapters, entries, strict=True):
            with world.journal.running(entry):
                on_step(entry)
                try:
                    await chapter.act(story)
                    entry.status = "done"
                except Exception as error:
                    entry.status, entry.failure = "failed", _reason(error)
            on_step(entry)
            if entry.status == "failed":
                return False
    return True


@asynccontextmanager
async def _story(world: World, entropy: Entropy) -> AsyncIterator[Story]:
    hooks = {"response": [world.journal.record]}
    async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False, event_hooks=hooks) as http:
        alice, bob = (
            Person(
                HomeserverClient(JsonApi(http, world.homeserver)),
                IdentityClient(JsonApi(http, world.identity_server)),
            )
            for _ in range(2)
        )
        yield Story(world, http, entropy, alice, bob)


async def register_users(story: Story) -> None:
    for name, person in (("alice", story.alice), ("bob", story.bob)):
        person.user_id = await person.homeserver.register(name, PASSWORDS[name])
        _expect(person.user_id, f"@{name}:{story.world.homeserver_name}")


async def request_openid_tokens(story: Story) -> None:
    for person in (story.alice, story.bob):
        person.openid_token = await person.homeserver.openid_token(person.user_id)
        _expect(person.openid_token["matrix_server_name"], story.world.homeserver_name)


async def open_accounts(story: Story) -> None:
    for person in (story.alice, story.bob):
        await person.identity.register(person.openid_token)
        _expect(await person.identity.account(), person.user_id)
    story.note("The identity server asked the homeserver, over TLS, whose the tokens are.")


async def request_email_token(story: Story) -> None:
    secret = story.entropy.token(32)
    story.sessions[EMAIL] = await story.alice.identity.request_email_token(EMAIL_ADDRESS, secret), secret
    mail = await story.world.inbox.newest_for(EMAIL_ADDRESS)
    story.note(f"A mail to {mail.recipient} has arrived: “{mail.subject}”")


async def open_link(story: Story) -> None:
    mail = await story.world.inbox.newest_for(EMAIL_ADDRESS)
    link = re.search(rf"{re.escape(story.world.identity_server)}\S+", mail.text)
    if link is None:
        raise Unexpected("the mail holds no link to the identity server")
    story.page = await story.http.get(link[0])
    _expect(story.page.status_code, 200)
    await _expect_refusal("M_SESSION_NOT_VALIDATED", story.alice.identity.validated_threepid(*story.sessions[EMAIL]))
    story.note("Opening it has changed nothing yet: mail scanners open links, too.")


async def click_button(story: Story) -> None:
    if story.page is None:
        raise Unexpected("there is no page with a button")
    form = _Form.on(story.page.text)
    answer = await story.http.request(form.method, urljoin(str(story.page.url), form.action), data=form.fields)
    _expect(answer.status_code, 200)
    proven = await story.alice.identity.validated_threepid(*story.sessions[EMAIL])
    _expect(proven, Threepid(EMAIL, EMAIL_ADDRESS))
    story.note(f"{EMAIL_ADDRESS} is proven to be Alice’s.")


async def verify_phone_number(story: Story) -> None:
    secret = story.entropy.token(32)
    sid = await story.alice.identity.request_msisdn_token(COUNTRY, PHONE_NUMBER, secret)
    story.sessions[MSISDN] = sid, secret
    sms = await story.world.inbox.newest_for(f"+{MSISDN_ADDRESS}")
    code = re.search(r"\b\d{6}\b", sms.text)
    if code is None:
        raise Unexpected("the SMS holds no code")
    story.note(f"An SMS to {sms.recipient} has arrived: “{sms.text.splitlines()[0]}”")
    await story.alice.identity.submit_token(MSISDN, sid, secret, code[0])
    _expect(await story.alice.identity.validated_threepid(sid, secret), Threepid(MSISDN, MSISDN_ADDRESS))


async def bind_both(story: Story) -> None:
    for session in story.sessions.values():
        association = await story.alice.identity.bind(*session, story.alice.user_id)
        _expect(association["mxid"], story.alice.user_id)
        await story.alice.identity.verify_association(association, story.world.identity_server_name)
    story.note("The signatures are those of the identity server’s published key.")


async def look_up_both(story: Story) -> None:
    wanted = [Threepid(EMAIL, EMAIL_ADDRESS.title()), Threepid(MSISDN, MSISDN_ADDRESS)]
    found = await story.bob.identity.lookup(wanted)
    _expect(
        found,
        {Threepid(EMAIL, EMAIL_ADDRESS): story.alice.user_id, Threepid(MSISDN, MSISDN_ADDRESS): story.alice.user_id},
    )
    story.note(f"Both are {story.alice.user_id}; only hashes went over the wire.")


async def unbind_one(story: Story) -> None:
    phone, mail = Threepid(MSISDN, MSISDN_ADDRESS), Threepid(EMAIL, EMAIL_ADDRESS)
    await story.alice.identity.unbind(phone, story.alice.user_id)
    _expect(await story.bob.identity.lookup([phone]), {})
    _expect(await story.bob.identity.lookup([mail]), {mail: story.alice.user_id})
    story.note("The phone number leads nowhere any more; the email address still leads to Alice.")


async def look_up_elsewhere(story: Story) -> None:
    phone, mail = Threepid(MSISDN, MSISDN_ADDRESS), Threepid(EMAIL, EMAIL_ADDRESS)
    elsewhere = IdentityClient(JsonApi(story.http, story.world.other_identity_server))
    await elsewhere.register(story.bob.openid_token)
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        # It may take a moment; nothing but asking tells a client.
        while await elsewhere.lookup([phone, mail]) != {mail: story.alice.user_id}:  # noqa: ASYNC110 (as it says)
            await asyncio.sleep(0.2)
    story.note(
        f"Nothing was ever bound at {story.world.other_identity_server_name}: it trusts "
        f"{story.world.identity_server_name}, and was told at once, of the end of a binding too."
    )


TOUR = (
    Chapter("Alice and Bob register at the homeserver", register_users),
    Chapter("The homeserver gives each of them an OpenID token", request_openid_tokens),
    Chapter("With it they open accounts at the identity server", open_accounts),
    Chapter("Alice asks to verify her email address", request_email_token),
    Chapter("She opens the link in the mail", open_link),
    Chapter("She clicks the button on the page", click_button),
    Chapter("She verifies her phone number with the code from an SMS", verify_phone_number),
    Chapter("She binds both to her user ID", bind_both),
    Chapter("Bob looks both up", look_up_both),
    Chapter("Alice unbinds her phone number, and Bob looks again", unbind_one),
    Chapter("Bob asks another identity server, a peer of the first", look_up_elsewhere),
)


class _Form(HTMLParser):
    """The first form of a page, as a browser would submit it."""

    def __init__(self) -> None:
        super().__init__()
        self.method = self.action = ""
        self.fields: dict[str, str] = {}

    @classmethod
    def on(cls, page: str) -> "_Form":
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


def _expect(actual: object, expected: object) -> None:
    if actual != expected:
        raise Unexpected(f"expected {expected!r}, but it is {actual!r}")


async def _expect_refusal(errcode: str, call: Awaitable[object]) -> None:
    try:
        await call
    except Refused as error:
        _expect(error.errcode, errcode)
    else:
        raise Unexpected(f"expected {errcode}, but the server agreed")


def _reason(error: Exception) -> str:
    match error:
        case Unexpected() | Refused() | Unreachable() | MatrixError() | InvalidSignature() | NoCommonAlgorithm():
            return str(error)
        case TimeoutError():
            return "nothing arrived in time"
        case _:
            return f"{type(error).__name__}: {error}"
