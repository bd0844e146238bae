"""SMS through Apprise: an operator lists routes, and each is an Apprise URL.

``[[sms.routes]]`` have a ``prefix`` (digits of E.164; empty: every number), a ``url`` and an ``originator``. A number
takes the route with the longest prefix that matches; if that fails, the next longest, and among routes with the same
prefix the one that is listed first. A route has failed when the gateway says so, or has not answered within
``sms.timeout``: then the SMS may arrive twice, which is better than not at all.

How the recipient gets into the URL:

1. ``{to}`` in the URL becomes the number with its ``+``, percent-encoded: ``clicksend://user:key@{to}``,
   ``jsons://gateway.example/sms/{to}``, ``jsons://gateway.example/sms?-recipient={to}``.
2. Without ``{to}``, ``json://``, ``form://`` and ``xml://`` (and ``jsons://`` and so on, over TLS) get the number as a
   field ``to`` of what they post, beside ``message``. In Apprise's notation ``:message=text`` renames a field,
   ``:name=value`` adds one, ``+name=value`` adds a header and ``-name=value`` a query parameter.
3. Any other URL gets the number as the last segment of its path, where services take their targets:
   ``twilio://SID:TOKEN@{originator}``, ``vonage://KEY:SECRET@{originator}``, ``msgbird://KEY/{originator}``,
   ``sns://KEY/SECRET/REGION``.

``{originator}`` becomes the route's originator, percent-encoded. Of a service that takes its target as the host
(``clicksend``, ``d7sms``, ``smsc``, ``smsmgr``, ``telesign``) rule 3 would make no sense: it needs ``{to}``.
A URL that Apprise does not understand, or from which the service does not pick up the number (some would then send
to the originator, and call it a success), is a route that fails.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, unquote

import structlog

from identity_server.matrix.errors import DestinationRejected, SendError
from identity_server.settings import SmsRoute, SmsSettings

_WEBHOOKS = ("json", "jsons", "form", "forms", "xml", "xmls")
_THREADS = 16
_SAMPLE_NUMBER = "442079460000"  # reserved for fiction by Ofcom, and of a usual length

log = structlog.get_logger(__name__)


class SmsRoutes:
    """The routes in the order in which they are tried. Threads carry the messages, because Apprise blocks."""

    def __init__(self, settings: SmsSettings) -> None:
        self._routes = sorted(settings.routes, key=lambda route: -len(_digits(route.prefix)))
        self._allowed = tuple(map(_digits, settings.allowed_prefixes))
        self._timeout = settings.timeout / 1000
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sms")

    async def send(self, msisdn: str, text: str) -> None:
        """Send ``text`` to ``msisdn`` (E.164 without ``+``) on the first route that takes it.

        Raises ``DestinationRejected`` if no route is for such numbers, ``SendError`` if all that are have failed.
        """
        routes = [route for route in self._routes if msisdn.startswith(_digits(route.prefix))]
        if not routes or (self._allowed and not msisdn.startswith(self._allowed)):
            raise DestinationRejected("Messages to this number are not possible here")
        for route in routes:
            if await self._sent(route, msisdn, text):
                return
            log.warning("sms_route_failed", prefix=route.prefix, service=_schema(route.url))
        raise SendError("The SMS could not be sent")

    def problems(self) -> list[str]:
        """What is wrong with the routes' URLs, a sentence each. Blocks while it loads Apprise; sends nothing."""
        return [
            f'The SMS route for prefix "{route.prefix}" ({_schema(route.url)}://…) is not usable: '
            "Apprise does not understand the URL, or finds no place in it for the recipient"
            for route in self._routes
            if _service(route, _SAMPLE_NUMBER, self._timeout) is None
        ]

    def close(self) -> None:
        """Forget what waits; what is being sent ends by its own time-out."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _sent(self, route: SmsRoute, msisdn: str, text: str) -> bool:
        sending = asyncio.get_running_loop().run_in_executor(self._threads, _notify, route, msisdn, text, self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                return await sending
        except TimeoutError:
            return False


def route_url(route: SmsRoute, msisdn: str) -> str:
    """The Apprise URL for one recipient, by the three rules above."""
    number = quote(f"+{msisdn}", safe="")
    url = route.url.replace("{originator}", quote(route.originator, safe=""))
    if "{to}" in url:
        return url.replace("{to}", number)
    base, _, query = url.partition("?")
    if _schema(url) in _WEBHOOKS:
        return f"{base}?{query}{'&' if query else ''}:to={number}"
    return f"{base.rstrip('/')}/{number}" + (f"?{query}" if query else "")


def _notify(route: SmsRoute, msisdn: str, text: str, timeout: float) -> bool:
    service = _service(route, msisdn, timeout)
    if service is None:
        return False
    try:
        return bool(service.notify(body=text))
    except Exception as error:  # a hundred services by as many authors: one that breaks must not stop the next route
        log.warning("sms_service_broke", service=_schema(route.url), error=type(error).__name__)
        return False


def _service(route: SmsRoute, msisdn: str, timeout: float) -> Any:
    """The Apprise service, ready to send, or None. Apprise is imported when the first SMS needs it: it takes 0.4 s."""
    import apprise

    # Its warnings quote numbers, and so do urllib3's.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    asset = apprise.AppriseAsset(app_id="identity-server", async_mode=False)
    service: Any = apprise.Apprise.instantiate(route_url(route, msisdn), asset=asset)
    if service is None or msisdn not in unquote(service.url(privacy=False)):
        return None
    service.socket_connect_timeout = service.socket_read_timeout = timeout
    return service


def _schema(url: str) -> str:
    return url.partition(":")[0].lower()


def _digits(prefix: str) -> str:
    return prefix.removeprefix("+")
