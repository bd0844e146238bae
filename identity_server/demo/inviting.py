"""The second part of the tour: an invitation to an email address, across two homeservers."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from identity_server.demo.proving import OTHER_EMAIL_ADDRESS, follow_link
from identity_server.demo.story import Person, Story, expect
from identity_server.matrix.threepid import EMAIL, Threepid

ROOM_NAME = "Tea at four"

_PATIENCE_SECONDS = 15

Result = TypeVar("Result")


async def invite_by_email(story: Story) -> None:
    alice, address = story.alice, Threepid(EMAIL, OTHER_EMAIL_ADDRESS)
    expect(await alice.identity.lookup([address]), {})
    story.room_id = await alice.rooms.create(ROOM_NAME)
    id_server = urlsplit(story.world.identity_server).netloc
    await alice.rooms.invite_threepid(story.room_id, address, id_server, alice.identity.api.token or "")
    mail = await story.next_message(OTHER_EMAIL_ADDRESS)
    story.note(f"A mail to {mail.recipient} has arrived: “{mail.subject}”")
    story.note("Her homeserver has put into the room what the identity server gave it: two keys and a token.")


async def bind_invited_address(story: Story) -> None:
    bob, secret = story.bob, story.entropy.token(32)
    session = await bob.identity.request_email_token(OTHER_EMAIL_ADDRESS, secret), secret
    await follow_link(story, OTHER_EMAIL_ADDRESS)
    association = await bob.identity.bind(*session, bob.user_id)
    expect(association["mxid"], bob.user_id)
    story.note("The identity server tells Bob’s homeserver what has been waiting for him.")


async def accept_invitation(story: Story) -> None:
    bob = story.bob
    told = await _in_time(bob.rooms.sync_until(lambda answer: story.room_id in _section(answer, "invite")))
    stripped = _section(told, "invite")[story.room_id]["invite_state"]["events"]
    expect([event["content"] for event in stripped if event["type"] == "m.room.name"], [{"name": ROOM_NAME}])
    await bob.rooms.join(story.room_id)
    await _in_time(bob.rooms.sync_until(lambda answer: story.room_id in _section(answer, "join")))
    story.note(f"{bob.user_id} is in a room that began at {story.world.homeserver_name}.")


async def talk(story: Story) -> None:
    said = "You got my invitation!", "Yes. Nobody had to know my user ID."
    for speaker, listener, words in ((story.alice, story.bob, said[0]), (story.bob, story.alice, said[1])):
        event_id = await speaker.rooms.say(story.room_id, words)
        event = await _heard(listener, story.room_id, event_id)
        expect((event["sender"], event["content"]["body"]), (speaker.user_id, words))
        story.note(f"{speaker.user_id}: “{words}”")


async def _heard(listener: Person, room_id: str, event_id: str) -> Mapping[str, Any]:
    """The event, once the listener is told of it."""

    def events(answer: Mapping[str, Any]) -> dict[str, Any]:
        timeline = _section(answer, "join").get(room_id, {}).get("timeline", {})
        return {event["event_id"]: event for event in timeline.get("events", [])}

    event: Mapping[str, Any] = events(
        await _in_time(listener.rooms.sync_until(lambda answer: event_id in events(answer)))
    )[event_id]
    return event


def _section(answer: Mapping[str, Any], membership: str) -> dict[str, Any]:
    rooms: dict[str, Any] = answer.get("rooms", {}).get(membership, {})
    return rooms


async def _in_time(work: Awaitable[Result]) -> Result:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        return await work
