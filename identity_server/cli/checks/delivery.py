"""Whether messages would get out; none is sent."""

import asyncio
import ssl
from ipaddress import ip_address

from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPException

from identity_server.cli.checks.finding import Finding, fine, problem, warning
from identity_server.identity.delivery.mail import Sender, mail_domain
from identity_server.identity.delivery.sms import SmsRoutes
from identity_server.identity.delivery.smtp import SmtpServer
from identity_server.settings import Settings

_SECONDS = 8.0


async def check_smtp(settings: Settings) -> list[Finding]:
    try:
        server = SmtpServer.parse(settings.email.smtp_url)
    except ValueError as error:
        return [problem("email", str(error), 'for example email.smtp_url = "smtp+starttls://user:password@host"')]
    try:
        Sender.parse(settings.email.sender, settings.server.name)
    except ValueError as error:
        return [problem("email", f"email.sender: {error}", 'for example email.sender = "noreply@example.org"')]
    where = f"{server.host}, port {server.port}"
    connection = SMTP(
        hostname=server.host,
        port=server.port,
        local_hostname=mail_domain(settings.server.name),
        timeout=_SECONDS,
        use_tls=server.encryption == "tls",
        start_tls=False,
    )
    try:
        await connection.connect()
    except (SMTPException, OSError) as error:
        return [problem("email", f"{where} cannot be connected to: {_reason(error)}", "check email.smtp_url")]
    try:
        return [await _negotiate(connection, server, where)]
    except (SMTPException, OSError) as error:
        return [problem("email", f"{where}: {_reason(error)}", "see the mail server's log")]
    finally:
        connection.close()


async def _negotiate(connection: SMTP, server: SmtpServer, where: str) -> Finding:
    """As ``identity/delivery/smtp.py`` does it before each first mail."""
    await connection.ehlo()
    here = ip_address(connection.get_transport_info("peername")[0].partition("%")[0]).is_loopback
    offered = connection.supports_extension("starttls")
    must = server.encryption == "starttls" or (
        server.encryption == "opportunistic" and bool(server.username) and not here
    )
    encrypted = server.encryption == "tls"
    if must and not offered:
        return problem("email", f"{where} does not offer STARTTLS", "have it do so, or use smtps://")
    if not encrypted and offered:
        context = ssl.create_default_context()
        if not must:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            await connection.starttls(tls_context=context)
        except (SMTPException, OSError) as error:
            return problem("email", f"{where}: TLS fails: {_reason(error)}", "give the mail server a valid certificate")
        encrypted = True
        await connection.ehlo()
    if server.username:
        try:
            await connection.login(server.username, server.password)
        except SMTPAuthenticationError as error:
            return problem(
                "email", f"{where} refuses the user name or password ({error.code})", "check them in email.smtp_url"
            )
    await connection.quit()
    if not encrypted and not here:
        return warning("email", f"{where} takes mails, but unencrypted", "have it offer STARTTLS, or use smtps://")
    return fine("email", f"{where}" + (", encrypted" if encrypted else "") + (", logged in" if server.username else ""))


async def check_sms(settings: Settings) -> list[Finding]:
    if not settings.sms.routes:
        return [warning("sms", "there is no route, so phone numbers cannot be verified", "add [[sms.routes]]")]
    routes = SmsRoutes(settings.sms)
    try:
        wrong = await asyncio.to_thread(routes.problems)
    finally:
        routes.close()
    if wrong:
        return [problem("sms", text, "compare the URL with Apprise's documentation of the service") for text in wrong]
    count = len(settings.sms.routes)
    return [fine("sms", f"{count} route{'s' if count > 1 else ''}")]


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).splitlines()[0]
