"""matrix-js-sdk, the library of Element and others, with both servers as an operator runs them.

The steps are in ``matrix_js_sdk.js``; the library is installed by
``npm install --prefix tests/interop --no-package-lock --no-audit --no-fund``.
"""

import asyncio
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from identity_server.matrix.signing import VerifyKey, verify_json
from tests.interop.system import System, open_system

HERE = Path(__file__).parent
_STORY_SECONDS = 120

MAIL = "Alice@Example.org"
SHARP_S = "Max.Strauß@Example.org"
PHONE = "447700900001"


@dataclass(frozen=True)
class Story:
    """What came of each step, by its name: its result, or the status and errcode with which it was refused."""

    system: System
    outcomes: dict[str, dict[str, Any]]
    public_key: str

    @property
    def alice(self) -> str:
        return f"@alice:{self.system.homeserver_name}"

    def result(self, step: str) -> Any:
        assert "result" in self.outcomes[step], self.outcomes[step]
        return self.outcomes[step]["result"]

    def error(self, step: str) -> tuple[int, str]:
        assert "error" in self.outcomes[step], self.outcomes[step]
        status, errcode = self.outcomes[step]["error"]
        return status, errcode


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node on the path")
    if not (HERE / "node_modules" / "matrix-js-sdk").is_dir():
        pytest.skip("matrix-js-sdk is not installed: npm install --prefix tests/interop")
    return asyncio.run(_told(node, tmp_path_factory.mktemp("interop")))


async def _told(node: str, folder: Path) -> Story:
    async with open_system(folder) as system:
        urls = {
            "homeserver": system.homeserver,
            "identityServer": system.identity_server,
            "inbox": system.inbox,
        }
        script = str(HERE / "matrix_js_sdk.js")
        process = await asyncio.create_subprocess_exec(
            node, script, json.dumps(urls), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(_STORY_SECONDS):
                output, complaints = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, output.decode() + complaints.decode()
        async with httpx.AsyncClient(base_url=system.identity_server) as client:
            key = (await client.get("/_matrix/identity/v2/pubkey/ed25519:0")).json()["public_key"]
    lines = [json.loads(line) for line in output.splitlines()]
    return Story(system, {line.pop("step"): line for line in lines}, key)


def test_both_servers_are_discovered(story: Story) -> None:
    assert story.result("discovery") == ["SUCCESS", "SUCCESS"]


def test_an_account_of_the_homeserver_is_one_of_the_identity_server(story: Story) -> None:
    assert story.result("log in") == story.alice
    assert story.result("OpenID token")["matrix_server_name"] == story.system.homeserver_name
    registered = story.result("register with the identity server")
    assert registered["token"] == registered["access_token"]
    assert story.result("account") == {"user_id": story.alice}


def test_what_the_homeserver_does_not_vouch_for_is_refused(story: Story) -> None:
    assert story.error("a foreign OpenID token") == (401, "M_UNAUTHORIZED")


def test_the_terms_come_first(story: Story) -> None:
    assert story.error("before the terms") == (403, "M_TERMS_NOT_SIGNED")
    policies = story.result("terms")["policies"]
    assert {name: policy["version"] for name, policy in policies.items()} == {"privacy": "2", "terms": "1"}
    assert policies["privacy"]["fr"] == {"name": "Confidentialité", "url": "https://id.test/privacy-2-fr"}
    assert story.result("agree") == {}


def test_an_email_address_is_proven_by_the_link_in_a_mail(story: Story) -> None:
    assert story.result("email token, once more") == story.result("email token")
    assert [message.recipient for message in story.system.messages.messages] == [
        "alice@example.org",
        "max.strauss@example.org",
        f"+{PHONE}",
    ]
    assert story.result("bind too early")["errcode"] == "M_SESSION_NOT_VALIDATED"
    assert story.result("follow the link") == {"page": 200, "clicked": 200, "location": None}
    next_link = f"{story.system.identity_server}/_matrix/identity/versions"
    assert story.result("follow the link to the next") == {"page": 200, "clicked": 303, "location": next_link}


def test_a_phone_number_is_proven_by_the_digits_in_an_sms(story: Story) -> None:
    assert story.error("wrong digits") == (400, "M_TOKEN_INCORRECT")
    assert story.result("digits") == {"success": True}
    assert story.system.messages.messages[-1].sender == "IdServer"


@pytest.mark.parametrize(
    ("step", "medium", "address"),
    [
        ("bind the email address", "email", "alice@example.org"),
        ("bind the folded email address", "email", "max.strauss@example.org"),
        ("bind the phone number", "msisdn", PHONE),
    ],
)
def test_what_is_proven_is_bound_and_signed_for(story: Story, step: str, medium: str, address: str) -> None:
    signed = story.result(step)
    assert (signed["medium"], signed["address"], signed["mxid"]) == (medium, address, story.alice)
    verify_json(signed, "id.localhost", VerifyKey.from_base64("ed25519:0", story.public_key))


def test_others_find_what_is_bound_however_they_write_it(story: Story) -> None:
    details = story.result("hash details")
    assert details["algorithms"] == ["sha256"]
    assert details["lookup_pepper"]
    found = story.result("hashed lookup")
    assert sorted((each["address"], each["mxid"]) for each in found) == [(PHONE, story.alice), (MAIL, story.alice)]
    upper = MAIL.upper()
    assert story.result("lookup") == {"address": upper, "medium": "email", "mxid": story.alice}
    assert story.result("lookup of nobody") == {}
    assert sorted(story.result("bulk lookup")["threepids"]) == sorted(
        [medium, address, story.alice]
        for medium, address in (
            ("email", MAIL),
            ("email", SHARP_S),
            ("email", "MAX.STRAUSS@EXAMPLE.ORG"),
            ("msisdn", PHONE),
        )
    )


def test_what_was_unbound_is_found_no_more(story: Story) -> None:
    assert story.result("unbind") == {}
    assert story.result("lookup of the unbound") == {}


def test_whoever_logged_out_is_nobody(story: Story) -> None:
    assert story.result("log out of the identity server") == {"status": 200, "body": {}}
    assert story.error("account after logging out") == (401, "M_UNAUTHORIZED")
    assert story.result("log out") == {}
    assert story.error("after logging out") == (401, "M_UNKNOWN_TOKEN")
