"""Settings that work, and that one may regret."""

import stat
from ipaddress import ip_address
from pathlib import Path

from identity_server.cli.checks.finding import Finding, fine, warning
from identity_server.settings import Settings


async def check_risks(settings: Settings, file: Path | None) -> list[Finding]:
    """``file``: the configuration, if there is one."""
    risks = [
        (
            settings.compatibility.v1_api == "all" and not settings.compatibility.v1_callers,
            'compatibility.v1_api = "all" lets anybody bind and look up without an account',
            'set it to "msisdn_only" or "off", or list the homeservers in compatibility.v1_callers',
        ),
        (
            settings.compatibility.query_token == "all",
            "compatibility.query_token lets tokens stand in URLs, and so in logs of proxies",
            'set it to "hash_details_only"',
        ),
        (
            not settings.federation.verify_certificates,
            "federation.verify_certificates = false lets anybody pose as a homeserver, and register as its users",
            "trust an authority of your own by federation.ca_file instead",
        ),
        (
            bool(settings.federation.allowed_private_networks),
            "federation.allowed_private_networks lets strangers have requests sent into these networks",
            "keep it as narrow as possible",
        ),
        (
            not settings.rate_limits.enabled,
            "rate limits are off: mails and SMS can be sent to others at your expense",
            "set rate_limits.enabled = true",
        ),
        (
            settings.rate_limits.enabled
            and settings.server.workers > 1
            and settings.rate_limits.storage.startswith("memory:"),
            f"each of the {settings.server.workers} workers counts rates by itself",
            'share the counters: rate_limits.storage = "redis://…"',
        ),
        (
            bool(settings.sms.routes) and not settings.sms.allowed_prefixes,
            "SMS are sent to any country, also to those with dear numbers",
            "list the country codes of your users in sms.allowed_prefixes",
        ),
        (
            not settings.validation.confirm_links,
            "validation.confirm_links = false lets mail scanners validate addresses by opening links",
            "set it to true",
        ),
        (
            "none" in settings.lookup.algorithms,
            "lookup.algorithms has clients send addresses in the clear",
            'set it to ["sha256"]',
        ),
        (
            settings.admin.port != 0 and not _is_loopback(settings.admin.bind),
            f"metrics are open to whoever reaches {settings.admin.bind}, port {settings.admin.port}",
            'set admin.bind = "127.0.0.1", or keep others away by a firewall',
        ),
        (
            settings.homeserver.registration,
            "homeserver.registration lets anybody register at the bundled homeserver",
            "set it to false once your users are there",
        ),
        (
            settings.logging.level == "debug",
            'logging.level = "debug" is slow, and says much',
            'set it to "info"',
        ),
        (
            file is not None and bool(stat.S_IMODE(file.stat().st_mode) & 0o044) and _holds_secrets(settings),
            f"others on this machine may read {file}, and the passwords in it",
            f"chmod 600 {file}",
        ),
    ]
    found = [warning("settings", text, mend) for is_so, text, mend in risks if is_so]
    return found or [fine("settings", "nothing risky")]


def _holds_secrets(settings: Settings) -> bool:
    urls = [settings.database.url, settings.email.smtp_url, settings.rate_limits.storage]
    return bool(settings.sms.routes) or any("@" in url for url in urls)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
