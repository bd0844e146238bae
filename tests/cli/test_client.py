"""`identity-server client`, as a person runs it, against real servers."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import httpx
import pytest
from typer.testing import CliRunner

from identity_server.cli import client
from identity_server.demo.world import World, open_world
from identity_server.matrix.homeserver_client import HomeserverClient
from identity_server.matrix.identity_client import IdentityClient
from identity_server.matrix.json_api import JsonApi

TERMS = {
    "policies": {
        "privacy": {
            "version": "1",
            "languages": {
                "en": {"name": "Privacy policy", "url": "https://id.test/privacy-en"},
                "fr": {"name": "Confidentialité", "url": "https://id.test/privacy-fr"},
            },
        }
    }
}


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Person:
    """Runs the command as ``user``, whose password is in the environment."""

    def __init__(self, world: World, user: str, command: tuple[str, ...]) -> None:
        self.world = world
        self.user = user
        self.command = command

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(*self.command, "client", *arguments),
            env={
                "COLUMNS": "100",
                "IDENTITY_CLIENT_SERVER": self.world.identity_server,
                "IDENTITY_CLIENT_HOMESERVER": self.world.homeserver,
                "IDENTITY_CLIENT_USER": self.user,
                "IDENTITY_CLIENT_PASSWORD": f"{self.user}'s",
                **environment,
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, entering: str = "", **environment: str) -> Ended:
        return await ended(await self.start(*arguments, **environment), entering)


async def ended(process: asyncio.subprocess.Process, entering: str = "") -> Ended:
    out, err = await asyncio.wait_for(process.communicate(entering.encode()), 30)
    return Ended(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def meet(command: tuple[str, ...]) -> AsyncIterator[Callable[..., Awaitable[tuple[Person, Person]]]]:
    """Opens a world with the given settings, and gives Alice and Bob in it."""
    async with contextlib.AsyncExitStack() as stack:

        async def meet(**sections: object) -> tuple[Person, Person]:
            world = await stack.enter_async_context(open_world(0, **sections))
            async with httpx.AsyncClient(trust_env=False) as http:
                for user in ("alice", "bob"):
                    await HomeserverClient(JsonApi(http, world.homeserver)).register(user, f"{user}'s")
            return Person(world, "alice", command), Person(world, "bob", command)

        yield meet


@pytest.fixture
async def people(meet: Callable[..., Awaitable[tuple[Person, Person]]]) -> tuple[Person, Person]:
    return await meet()


def code_in(text: str) -> str:
    """The code in a message: on a line of its own in a mail, six digits in an SMS."""
    found = re.search(r"^\w{32}$|\b\d{6}\b", text, re.MULTILINE)
    assert found
    return found[0]


async def test_an_address_is_bound_with_the_code_from_the_mail_and_found_by_others(
    people: tuple[Person, Person],
) -> None:
    alice, bob = people
    binding = await alice.start("bind", "email", "Alice@Example.org")
    mail = await alice.world.inbox.newest_for("alice@example.org")
    bound = await ended(binding, f"wrong\n{code_in(mail.text)}\n")
    assert bound.code == 0, bound.err
    assert "A mail is on its way to Alice@Example.org." in bound.out
    assert "M_TOKEN_INCORRECT" in bound.out
    user_id = f"@alice:{alice.world.homeserver_name}"
    assert f"✓ alice@example.org now leads to {user_id}." in bound.out

    typed = ["ALICE@example.ORG", "+44 7700 900002", "bob@example.org"]
    found = await bob.run("lookup", typed[0], "--file", "-", entering="\n".join(typed[1:]))
    assert found.code == 0, found.err
    assert found.out.splitlines() == [f"{typed[0]}\t{user_id}", f"{typed[1]}\t", f"{typed[2]}\t"]


async def test_a_number_is_verified_now_and_bound_later(people: tuple[Person, Person]) -> None:
    alice, bob = people
    verifying = await alice.start("verify", "msisdn", "GB", "07700", "900001")
    sms = await alice.world.inbox.newest_for("+447700900001")
    verified = await ended(verifying, f"{code_in(sms.text)}\n")
    assert verified.code == 0, verified.err
    assert "✓ 447700900001 is yours." in verified.out
    session = dict(re.findall(r"^(sid|client_secret) +(\S+)", verified.out, re.MULTILINE))
    bound = await alice.run("bind", "--sid", session["sid"], "--client-secret", session["client_secret"])
    assert bound.code == 0, bound.err
    found = await bob.run("lookup", "+44 (7700) 900-001")
    assert found.out == f"+44 (7700) 900-001\t@alice:{alice.world.homeserver_name}\n"


async def test_without_a_code_one_is_told_how_to_go_on_and_can(people: tuple[Person, Person]) -> None:
    alice, _ = people
    left = await alice.run("verify", "email", "alice@example.org")
    assert left.code == 1
    told = re.search(r"go on later with (verify email --code CODE --sid \S+ --client-secret \S+)", left.err)
    assert told
    mail = await alice.world.inbox.newest_for("alice@example.org")
    went_on = await alice.run(*told[1].replace("CODE", code_in(mail.text)).split())
    assert went_on.code == 0, went_on.err
    assert "✓ alice@example.org is yours." in went_on.out


async def test_terms_are_shown_and_asked_about_in_ones_language(
    meet: Callable[..., Awaitable[tuple[Person, Person]]],
) -> None:
    alice, bob = await meet(terms=TERMS)
    refused = await alice.run("lookup", "bob@example.org", entering="n\n", LANG="fr_FR.UTF-8")
    assert refused.code == 1
    assert "Confidentialité" in refused.out
    assert "https://id.test/privacy-fr" in refused.out
    assert "--accept-terms" in refused.err
    agreed = await alice.run("lookup", "bob@example.org", entering="y\n")
    assert agreed.code == 0, agreed.err
    again, accepted = await asyncio.gather(
        alice.run("lookup", "bob@example.org"), bob.run("lookup", "bob@example.org", "--accept-terms")
    )
    assert again.out == "bob@example.org\t\n"
    assert accepted.code == 0, accepted.err


async def test_an_access_token_of_either_server_will_do(people: tuple[Person, Person]) -> None:
    alice, _ = people
    async with httpx.AsyncClient(trust_env=False) as http:
        homeserver = HomeserverClient(JsonApi(http, alice.world.homeserver))
        user_id = await homeserver.log_in("alice", "alice's", "test")
        identity = IdentityClient(JsonApi(http, alice.world.identity_server))
        await identity.register(await homeserver.openid_token(user_id))
        tokens = {
            "IDENTITY_CLIENT_ACCESS_TOKEN": homeserver.api.token or "",
            "IDENTITY_CLIENT_TOKEN": identity.api.token or "",
        }
        for name, token in tokens.items():
            looked = await alice.run("lookup", "bob@example.org", IDENTITY_CLIENT_USER="", **{name: token})
            assert looked == (0, "bob@example.org\t\n", "")
        # Neither was logged out: they are not the command's.
        assert await homeserver.who_am_i() == await identity.account() == user_id


async def test_the_homeserver_says_which_identity_server(people: tuple[Person, Person]) -> None:
    alice, _ = people
    assert await alice.run("lookup", "b@example.org", IDENTITY_CLIENT_SERVER="") == (0, "b@example.org\t\n", "")


# What is run, in which environment, and what it says.
REFUSED: list[tuple[list[str], dict[str, str], str]] = [
    (["lookup", "b@example.org"], {"IDENTITY_CLIENT_PASSWORD": "wrong"}, "Invalid username or password"),
    (["lookup", "b@example.org"], {"IDENTITY_CLIENT_TOKEN": "wrong"}, "M_UNAUTHORIZED"),
    (["lookup", "b@example.org"], {"IDENTITY_CLIENT_SERVER": "http://127.0.0.1:1"}, "cannot be reached"),
    (["verify", "email", "not an address"], {}, "M_INVALID_EMAIL"),
    (["bind", "--sid", "1", "--client-secret", "2"], {}, "M_NO_VALID_SESSION"),
]


async def test_what_a_server_refuses_is_said_in_one_line(people: tuple[Person, Person]) -> None:
    alice, _ = people
    runs = (alice.run(*arguments, **environment) for arguments, environment, _says in REFUSED)
    for failed, (_, _, says) in zip(await asyncio.gather(*runs), REFUSED, strict=True):
        assert failed.code == 1
        assert re.fullmatch(rf"error: .*{re.escape(says)}.*\n", failed.err), failed.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("lookup", "say which addresses"),
        ("lookup b@example.org", "say who you are"),
        ("lookup b@example.org --token secret", "--token needs --server"),
        ("lookup b@example.org --user alice", "say which homeserver"),
        ("lookup b@example.org --access-token secret --homeserver ftp://hs.test", "not an HTTP URL"),
        ("lookup 07700900001", "neither an email address nor a phone number"),
        ("verify", "say what to verify"),
        ("bind", "say what to bind"),
        ("bind --sid 1", "belong together"),
    ],
)
def test_what_is_missing_is_said_in_one_line(arguments: str, says: str) -> None:
    failed = CliRunner().invoke(client.app, arguments)
    assert failed.exit_code == 1
    assert re.fullmatch(rf"error: .*{re.escape(says)}.*\n", failed.stderr), failed.stderr
