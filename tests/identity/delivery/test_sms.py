"""SMS over Apprise, to real HTTP servers on loopback."""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from identity_server.identity.delivery.sms import SmsRoutes, route_url
from identity_server.matrix.errors import DestinationRejected, SendError
from identity_server.settings import SmsRoute, SmsSettings

# Apprise's mail plugin imports imghdr, which Python 3.13 drops; Apprise knows.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NUMBER = "491701234567"
TEXT = "Your verification code is 123456.\n\n@is.test #123456"


class Gateway:
    """An SMS gateway that takes what is posted to it, or refuses it, or lets it wait."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.status = 200
        self.delay = 0.0
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                gateway.requests.append((self.path, body))
                time.sleep(gateway.delay)
                self.send_response(gateway.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 100

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def payloads(self) -> list[dict[str, object]]:
        return [json.loads(body) for _, body in self.requests]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.stop()


@pytest.fixture
def second() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.stop()


async def send(*routes: SmsRoute, to: str = NUMBER, timeout_ms: int = 5000, allowed: tuple[str, ...] = ()) -> None:
    outlet = SmsRoutes(SmsSettings(routes=routes, allowed_prefixes=allowed, timeout=timeout_ms))
    try:
        await outlet.send(to, TEXT)
    finally:
        outlet.close()


async def test_a_webhook_is_told_number_and_text(gateway: Gateway) -> None:
    await send(SmsRoute(url=f"json://{gateway.address}/sms"))
    assert gateway.requests[0][0] == "/sms"
    assert gateway.payloads[0]["to"] == "+491701234567"
    assert gateway.payloads[0]["message"] == TEXT
    assert gateway.payloads[0]["title"] == ""


async def test_a_webhook_may_want_other_names_and_the_originator(gateway: Gateway) -> None:
    url = f"json://{gateway.address}/v1/{{to}}?-recipient={{to}}&:message=text&:sender={{originator}}"
    await send(SmsRoute(url=url, originator="Ex & Co"))
    path, _ = gateway.requests[0]
    assert urlsplit(path).path in ("/v1/+491701234567", "/v1/%2B491701234567")
    assert parse_qs(urlsplit(path).query) == {"recipient": ["+491701234567"]}
    assert gateway.payloads[0]["text"] == TEXT
    assert gateway.payloads[0]["sender"] == "Ex & Co"
    assert "to" not in gateway.payloads[0]


async def test_a_form_is_told_number_and_text(gateway: Gateway) -> None:
    await send(SmsRoute(url=f"form://{gateway.address}/sms"))
    form = parse_qs(gateway.requests[0][1])
    assert form["to"] == ["+491701234567"]
    assert form["message"] == [TEXT]


async def test_the_longest_prefix_goes_first(gateway: Gateway, second: Gateway) -> None:
    routes = (
        SmsRoute(url=f"json://{gateway.address}"),
        SmsRoute(prefix="49", url=f"json://{gateway.address}"),
        SmsRoute(prefix="+49170", url=f"json://{second.address}"),
    )
    await send(*routes)
    assert (len(gateway.requests), len(second.requests)) == (0, 1)
    await send(*routes, to="493012345678")
    await send(*routes, to="12025550100")
    assert (len(gateway.requests), len(second.requests)) == (2, 1)


@pytest.mark.parametrize("broken", ["refusing", "gone", "unknown service", "unreadable"])
async def test_a_route_that_fails_is_followed_by_the_next(gateway: Gateway, second: Gateway, broken: str) -> None:
    gateway.status = 503
    url = {
        "refusing": f"json://{gateway.address}",
        "gone": "json://127.0.0.1:1",
        "unknown service": "carrierpigeon://coop",
        "unreadable": "twilio://not-an-account",
    }[broken]
    await send(SmsRoute(prefix="49", url=url), SmsRoute(url=f"json://{second.address}"))
    assert len(second.requests) == 1


async def test_a_route_that_does_not_answer_in_time_is_followed_by_the_next(gateway: Gateway, second: Gateway) -> None:
    gateway.delay = 1.0
    routes = (SmsRoute(prefix="49", url=f"json://{gateway.address}"), SmsRoute(url=f"json://{second.address}"))
    await send(*routes, timeout_ms=300)
    assert len(second.requests) == 1


async def test_routes_of_the_same_prefix_are_tried_in_their_order(gateway: Gateway, second: Gateway) -> None:
    routes = (SmsRoute(url=f"json://{gateway.address}"), SmsRoute(url=f"json://{second.address}"))
    await send(*routes)
    assert (len(gateway.requests), len(second.requests)) == (1, 0)
    gateway.status = 500
    await send(*routes)
    assert (len(gateway.requests), len(second.requests)) == (2, 1)


async def test_when_all_routes_fail_the_error_names_no_number(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    gateway.status = 500
    with pytest.raises(SendError) as raised:
        await send(SmsRoute(url=f"json://{gateway.address}/{{to}}"), SmsRoute(url="json://127.0.0.1:1/{to}"))
    written = capsys.readouterr()
    for text in (str(raised.value), caplog.text, written.out, written.err):
        assert NUMBER not in text
        assert "123456" not in text


async def test_only_allowed_prefixes_are_sent_to(gateway: Gateway) -> None:
    route = SmsRoute(url=f"json://{gateway.address}")
    await send(route, allowed=("+49", "33"))
    with pytest.raises(DestinationRejected):
        await send(route, to="447700900123", allowed=("+49", "33"))
    assert len(gateway.requests) == 1


async def test_a_number_without_a_route_is_rejected(gateway: Gateway) -> None:
    with pytest.raises(DestinationRejected):
        await send(SmsRoute(prefix="33", url=f"json://{gateway.address}"))
    with pytest.raises(DestinationRejected):
        await send()
    assert gateway.requests == []


SERVICES = [
    "twilio://AC" + "a" * 32 + ":" + "b" * 32 + "@{originator}",
    "vonage://abcd1234:" + "a" * 16 + "@{originator}",
    "msgbird://" + "a" * 25 + "/{originator}",
    "sns://AKIAIOSFODNN7EXAMPLE/wJalrXUtnFEMI/us-east-1",
    "sinch://" + "a" * 32 + ":" + "b" * 32 + "@{originator}",
    "plivo://" + "a" * 25 + "@" + "b" * 40 + "/{originator}",
    "46elks://user:password@{originator}",
    "infobip://key@host.api.infobip.com",
    "seven://apikey",
    "clicksend://user:key@{to}",
    "smsmgr://apikey@{to}",
    "telesign://customer:key@{to}",
    "jsons://gateway.example/sms?+Authorization=Bearer%20abc",
    "forms://gateway.example/sms",
    "xmls://gateway.example/sms",
]


@pytest.mark.parametrize("url", SERVICES, ids=[url.partition(":")[0] for url in SERVICES])
def test_the_recipient_reaches_each_kind_of_service(url: str) -> None:
    routes = SmsRoutes(SmsSettings(routes=(SmsRoute(url=url, originator="+15005550006"),)))
    assert routes.problems() == []
    routes.close()


@pytest.mark.parametrize("url", ["clicksend://user:key", "telesign://customer:key", "nonsense", "mailto://x"])
def test_a_url_that_cannot_work_is_found_beforehand_and_its_secrets_stay_secret(url: str) -> None:
    routes = SmsRoutes(SmsSettings(routes=(SmsRoute(prefix="49", url=url),)))
    (problem,) = routes.problems()
    assert '"49"' in problem
    assert "key" not in problem
    routes.close()


async def test_a_number_that_a_service_drops_does_not_go_to_the_originator_instead(gateway: Gateway) -> None:
    # Apprise drops numbers of fewer than ten digits, and such services then send to the originator.
    twilio = SmsRoute(prefix="376", url=SERVICES[0], originator="+15005550006")
    await send(twilio, SmsRoute(url=f"json://{gateway.address}"), to="376312345")
    assert gateway.payloads[0]["to"] == "+376312345"


def test_the_number_stands_before_a_query() -> None:
    route = SmsRoute(url="twilio://SID:TOKEN@{originator}/?method=sms", originator="+1 500")
    assert route_url(route, NUMBER) == "twilio://SID:TOKEN@%2B1%20500/%2B491701234567?method=sms"


def test_apprise_is_not_imported_before_the_first_sms() -> None:
    script = "import sys, identity_server.identity.delivery.outlet; sys.exit('apprise' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
