"""The tour: what people, an app and the servers do, step by step, each held to what it promises."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import httpx

from identity_server.demo import inviting, proving
from identity_server.demo.journal import Entry
from identity_server.demo.story import Chapter, Person, Story, Unexpected
from identity_server.demo.world import World
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identity_client import NoCommonAlgorithm
from identity_server.matrix.json_api import Refused
from identity_server.matrix.signing import InvalidSignature
from identity_server.runtime.tokens import Entropy

_TIMEOUT_SECONDS = 15


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
        alice = Person(http, world.homeserver, world.identity_server)
        bob = Person(http, world.other_homeserver, world.identity_server)
        yield Story(world, http, entropy, alice, bob)


TOUR = (
    Chapter("Alice and Bob register, each at a homeserver of their own", proving.register_users),
    Chapter("Their homeservers give each of them an OpenID token", proving.request_openid_tokens),
    Chapter("With it they open accounts at the identity server", proving.open_accounts),
    Chapter("Alice asks to verify her email address", proving.request_email_token),
    Chapter("She opens the link in the mail", proving.open_link),
    Chapter("She clicks the button on the page", proving.click_button),
    Chapter("She verifies her phone number with the code from an SMS", proving.verify_phone_number),
    Chapter("She binds both to her user ID", proving.bind_both),
    Chapter("Bob looks both up", proving.look_up_both),
    Chapter("Alice unbinds her phone number, and Bob looks again", proving.unbind_one),
    Chapter("Bob asks another identity server, a peer of the first", proving.look_up_elsewhere),
    Chapter("Alice invites an email address to a room: nobody’s, so far", inviting.invite_by_email),
    Chapter("Bob proves that it is his, by the link in a mail, and binds it", inviting.bind_invited_address),
    Chapter("That invites him, from the other homeserver, and he joins", inviting.accept_invitation),
    Chapter("They talk, each through a homeserver of their own", inviting.talk),
)


def _reason(error: Exception) -> str:
    match error:
        case Unexpected() | Refused() | Unreachable() | MatrixError() | InvalidSignature() | NoCommonAlgorithm():
            return str(error)
        case TimeoutError():
            return "nothing arrived in time"
        case _:
            return f"{type(error).__name__}: {error}"
