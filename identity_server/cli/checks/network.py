"""How the server looks from outside: its name, its address, its certificate, the homeservers beyond."""

import asyncio
import ssl
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from cryptography import x509

from identity_server.cli.checks.finding import Finding, fine, problem, warning
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identifiers import split_server_name
from identity_server.runtime.clock import Clock
from identity_server.runtime.federation import Federation, open_federation
from identity_server.settings import Settings

_SECONDS = 8.0
_DAY_MS = 86_400_000
_RENEW_DAYS = 14
_TOLERATED_MS = 5_000
_ONLY_FOR_TRYING = ("localhost", ".localhost", ".local", ".test", ".example", ".invalid", ".internal")


async def check_name(settings: Settings) -> list[Finding]:
    name = settings.server.name
    host = split_server_name(name).host
    if host.endswith(_ONLY_FOR_TRYING):
        return [warning("name", f"{name} is a name for trying things out", "set server.name to a name in the DNS")]
    return [fine("name", name)]


async def check_dns(settings: Settings) -> list[Finding]:
    hosts = dict.fromkeys(
        (split_server_name(settings.server.name).host, urlsplit(settings.public_base_url).hostname or "")
    )
    return [await _resolved(host) for host in hosts]


async def _resolved(host: str) -> Finding:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=1)
    except OSError as error:
        return problem("dns", f"{host} has no address ({error.strerror})", "add an A or AAAA record for it")
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
    return fine("dns", f"{host} is {', '.join(addresses[:3])}")


async def check_public_url(settings: Settings, clock: Clock) -> list[Finding]:
    url = settings.public_base_url
    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    try:
        async with httpx.AsyncClient(verify=_trusting(settings), timeout=_SECONDS) as http:
            answer = await http.get(f"{url}/_matrix/identity/v2")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error)
        return [
            problem(
                "public URL",
                f"{url} cannot be reached: {reason}",
                "start the server (identity-server serve); check server.public_base_url, reverse proxy and firewall",
            ),
            warning("clock", "there was nobody to compare it with", "run NTP"),
        ]
    findings = [_clock_beside(answer, clock)]
    if answer.status_code != 200 or not _is_empty_object(answer):
        text = f"{url}/_matrix/identity/v2 answers with status {answer.status_code}, not as an identity server"
        findings.append(problem("public URL", text, "let the reverse proxy pass /_matrix/identity/ to the server"))
    elif answer.headers.get("access-control-allow-origin") != "*":
        text = f"{url} answers without CORS headers, so apps in browsers cannot use it"
        findings.append(problem("public URL", text, "let the reverse proxy pass the server's headers through"))
    elif scheme != "https" and not _is_loopback(host):
        findings.append(warning("public URL", f"{url} is not HTTPS", "apps insist on https:// for any other machine"))
    else:
        findings.append(fine("public URL", f"{url} answers"))
    return findings[::-1]


async def check_certificates(settings: Settings, clock: Clock) -> list[Finding]:
    files = [settings.server.tls_certificate, settings.homeserver.tls_certificate]
    findings = [_certificate_in(file, clock) for file in files if file]
    url = urlsplit(settings.public_base_url)
    if url.scheme != "https" or not url.hostname:
        return findings
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(url.hostname, url.port or 443, ssl=_trusting(settings))
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "verify_message", None) or str(error) or "no answer in time"
        text = f"{url.netloc} cannot be reached by TLS: {reason}"
        return [*findings, problem("certificate", text, "get one that is valid for this name, from an authority")]
    ends_ts = int(ssl.cert_time_to_seconds(writer.get_extra_info("peercert")["notAfter"]) * 1000)
    writer.transport.abort()  # nothing was said, so there is no goodbye to wait for
    return [*findings, _lifetime(url.netloc, ends_ts, clock)]


async def check_homeservers(settings: Settings, clock: Clock) -> list[Finding]:
    """Those that are named in the configuration."""
    names = list(settings.federation.homeserver_allow_list)
    if "homeserver" in settings.model_fields_set:
        names.append(settings.homeserver.name)
    federation = settings.federation.model_copy(update={"timeout": int(_SECONDS * 1000)})
    async with open_federation(federation, clock) as opened:
        found = await asyncio.gather(
            *(_check_homeserver(name, settings, opened, clock) for name in dict.fromkeys(names))
        )
    return [finding for findings in found for finding in findings]


async def _check_homeserver(name: str, settings: Settings, federation: Federation, clock: Clock) -> list[Finding]:
    try:
        endpoints = await federation.discovery.endpoints(name, now_ms=clock.now_ms())
        await federation.client.server_keys(name)
    except (Unreachable, MatrixError, ValueError) as error:
        mend = "check its .well-known/matrix/server, its port and its certificate; federation.ca_file trusts others"
        return [problem("homeserver", str(error) or f"{name} is no server name", mend)]
    where = f"{endpoints[0].host}, port {endpoints[0].port}"
    return [fine("homeserver", f"{name} answers at {where}"), *await _recommendation(name, settings, federation)]


async def _recommendation(name: str, settings: Settings, federation: Federation) -> Sequence[Finding]:
    """Whether the homeserver's domain tells apps of this identity server ("Server Discovery")."""
    named = split_server_name(name)
    if named.is_ip or named.port is not None:
        return ()
    ours = settings.public_base_url
    try:
        answer = await federation.http.request("GET", f"https://{named.host}/.well-known/matrix/client", redirects=5)
        recommended = answer.json()["m.identity_server"]["base_url"].rstrip("/")
    except (Unreachable, ValueError, KeyError, TypeError, AttributeError):
        recommended = None
    if recommended == ours:
        return [fine("homeserver", f"{named.host} recommends this server to apps")]
    text = f"{named.host} recommends {recommended or 'no identity server'} to apps"
    mend = f'in its .well-known/matrix/client: "m.identity_server": {{"base_url": "{ours}"}}'
    return [warning("homeserver", text, mend)]


def _clock_beside(answer: httpx.Response, clock: Clock) -> Finding:
    try:
        there_ms = int(parsedate_to_datetime(answer.headers["date"]).timestamp() * 1000)
    except (KeyError, ValueError):
        return warning("clock", "the answer at the public URL has no date to compare it with", "run NTP")
    apart_ms = abs(there_ms - clock.now_ms())
    if apart_ms > _TOLERATED_MS:
        return problem(
            "clock", f"it is {apart_ms / 1000:.0f} s apart from the public URL's", "run NTP on both machines"
        )
    return fine("clock", "agrees with the public URL's")


def _certificate_in(file: Path, clock: Clock) -> Finding:
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        return problem("certificate", f"{file} cannot be read: {error}", "it must be PEM, and the server's user's")
    return _lifetime(str(file), int(certificate.not_valid_after_utc.timestamp() * 1000), clock)


def _lifetime(of: str, ends_ts: int, clock: Clock) -> Finding:
    days = (ends_ts - clock.now_ms()) // _DAY_MS
    if days < 0:
        return problem("certificate", f"that of {of} has expired", "renew it")
    if days < _RENEW_DAYS:
        return warning("certificate", f"that of {of} expires in {days} day{'s' if days != 1 else ''}", "renew it")
    return fine("certificate", f"that of {of} is valid for {days} days more")


def _is_empty_object(answer: httpx.Response) -> bool:
    try:
        return bool(answer.json() == {})
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _trusting(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.federation.ca_file and settings.federation.ca_file.exists():
        context.load_verify_locations(settings.federation.ca_file)
    return context
