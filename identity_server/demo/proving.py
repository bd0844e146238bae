"""The first part of the tour: Alice proves what is hers, and others find her by it."""

import asyncio
import re
from urllib.parse import urljoin

import httpx

from identity_server.demo.pages.inbox import Message
from identity_server.demo.story import Form, Story, Unexpected, expect, expect_refusal
from identity_server.matrix.identity_client import IdentityClient
from identity_server.matrix.json_api import JsonApi
from identity_server.matrix.threepid import EMAIL, MSISDN, Threepid

EMAIL_ADDRESS, OTHER_EMAIL_ADDRESS = "alice@example.org", "bob@example.org"
# Of the range that Ofcom keeps free for fiction.
COUNTRY, PHONE_NUMBER, MSISDN_ADDRESS = "GB", "07700 900001", "447700900001"
PASSWORDS = {"alice": "wonderland-1865", "bob": "builder-1998"}

_PATIENCE_SECONDS = 15


async def register_users(story: Story) -> None:
    people = (("alice", story.alice, EMAIL_ADDRESS), ("bob", story.bob, OTHER_EMAIL_ADDRESS))
    for name, person, address in people:
        secret = story.entropy.token(32)
        session = await person.homeserver.request_registration_token(address, secret), secret
        await follow_link(story, address)
        person.user_id = await person.homeserver.register(name, PASSWORDS[name], email_session=session)
    expect(story.alice.user_id, f"@alice:{story.world.homeserver_name}")
    expect(story.bob.user_id, f"@bob:{story.world.other_homeserver_name}")
    story.note("The homeservers know the addresses now. Nobody is found by one of them yet.")


async def request_openid_tokens(story: Story) -> None:
    names = (story.world.homeserver_name, story.world.other_homeserver_name)
    for person, name in zip((story.alice, story.bob), names, strict=True):
        person.openid_token = await person.homeserver.openid_token(person.user_id)
        expect(person.openid_token["matrix_server_name"], name)


async def open_accounts(story: Story) -> None:
    for person in (story.alice, story.bob):
        await person.identity.register(person.openid_token)
        expect(await person.identity.account(), person.user_id)
    story.note("The identity server asked the homeservers, over TLS, whose the tokens are.")


async def request_email_token(story: Story) -> None:
    secret = story.entropy.token(32)
    story.sessions[EMAIL] = await story.alice.identity.request_email_token(EMAIL_ADDRESS, secret), secret
    story.mail = await story.next_message(EMAIL_ADDRESS)
    story.note(f"A mail to {story.mail.recipient} has arrived: “{story.mail.subject}”")


async def open_link(story: Story) -> None:
    story.page = await open_link_in(story, story.mail)
    await expect_refusal("M_SESSION_NOT_VALIDATED", story.alice.identity.validated_threepid(*story.sessions[EMAIL]))
    story.note("Opening it has changed nothing yet: mail scanners open links, too.")


async def click_button(story: Story) -> None:
    await click_button_on(story, story.page)
    proven = await story.alice.identity.validated_threepid(*story.sessions[EMAIL])
    expect(proven, Threepid(EMAIL, EMAIL_ADDRESS))
    story.note(f"{EMAIL_ADDRESS} is proven to be Alice’s.")


async def verify_phone_number(story: Story) -> None:
    secret = story.entropy.token(32)
    sid = await story.alice.identity.request_msisdn_token(COUNTRY, PHONE_NUMBER, secret)
    story.sessions[MSISDN] = sid, secret
    sms = await story.next_message(f"+{MSISDN_ADDRESS}")
    code = re.search(r"\b\d{6}\b", sms.text)
    if code is None:
        raise Unexpected("the SMS holds no code")
    story.note(f"An SMS to {sms.recipient} has arrived: “{sms.text.splitlines()[0]}”")
    await story.alice.identity.submit_token(MSISDN, sid, secret, code[0])
    expect(await story.alice.identity.validated_threepid(sid, secret), Threepid(MSISDN, MSISDN_ADDRESS))


async def bind_both(story: Story) -> None:
    for session in story.sessions.values():
        association = await story.alice.identity.bind(*session, story.alice.user_id)
        expect(association["mxid"], story.alice.user_id)
        await story.alice.identity.verify_association(association, story.world.identity_server_name)
    story.note("The signatures are those of the identity server’s published key.")


async def look_up_both(story: Story) -> None:
    wanted = [Threepid(EMAIL, EMAIL_ADDRESS.title()), Threepid(MSISDN, MSISDN_ADDRESS)]
    found = await story.bob.identity.lookup(wanted)
    expect(
        found,
        {Threepid(EMAIL, EMAIL_ADDRESS): story.alice.user_id, Threepid(MSISDN, MSISDN_ADDRESS): story.alice.user_id},
    )
    story.note(f"Both are {story.alice.user_id}; only hashes went over the wire.")


async def unbind_one(story: Story) -> None:
    phone, mail = Threepid(MSISDN, MSISDN_ADDRESS), Threepid(EMAIL, EMAIL_ADDRESS)
    await story.alice.identity.unbind(phone, story.alice.user_id)
    expect(await story.bob.identity.lookup([phone]), {})
    expect(await story.bob.identity.lookup([mail]), {mail: story.alice.user_id})
    story.note("The phone number leads nowhere any more; the email address still leads to Alice.")


async def look_up_elsewhere(story: Story) -> None:
    phone, mail = Threepid(MSISDN, MSISDN_ADDRESS), Threepid(EMAIL, EMAIL_ADDRESS)
    elsewhere = IdentityClient(JsonApi(story.http, story.world.other_identity_server))
    await elsewhere.register(story.bob.openid_token)
    async with asyncio.timeout(_PATIENCE_SECONDS):
        # It may take a moment; nothing but asking tells a client.
        while True:
            await asyncio.sleep(0.2)
            if await elsewhere.lookup([phone, mail]) == {mail: story.alice.user_id}:
                break
    story.note(
        f"Nothing was ever bound at {story.world.other_identity_server_name}: it trusts "
        f"{story.world.identity_server_name}, and was told at once, of the end of a binding too."
    )


async def follow_link(story: Story, recipient: str) -> None:
    """What somebody does who gets a mail to confirm an address: opens the link in it, and clicks the button."""
    page = await open_link_in(story, await story.next_message(recipient))
    await click_button_on(story, page)


async def open_link_in(story: Story, mail: Message | None) -> httpx.Response:
    link = re.search(r"http://\S+submitToken\S+", mail.text if mail else "")
    if link is None:
        raise Unexpected("the mail holds no link to confirm the address with")
    page = await story.http.get(link[0])
    expect(page.status_code, 200)
    return page


async def click_button_on(story: Story, page: httpx.Response | None) -> None:
    if page is None:
        raise Unexpected("there is no page with a button")
    form = Form.on(page.text)
    answer = await story.http.request(form.method, urljoin(str(page.url), form.action), data=form.fields)
    expect(answer.status_code, 200)
