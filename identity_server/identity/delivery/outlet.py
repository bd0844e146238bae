"""How a message leaves, as the rest of the server sees it; the real way, and the recording fake beside it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import structlog
from jinja2 import TemplateError

from identity_server.identity.delivery.mail import Sender, compose, mail_domain
from identity_server.identity.delivery.sms import SmsRoutes
from identity_server.identity.delivery.smtp import SmtpConnections, SmtpServer
from identity_server.identity.delivery.templates import Templates
from identity_server.matrix.errors import DestinationRejected, EmailSendError, SendError
from identity_server.matrix.threepid import EMAIL, MSISDN
from identity_server.runtime.clock import Clock
from identity_server.runtime.dependencies import opened
from identity_server.runtime.metrics import MESSAGES
from identity_server.runtime.tokens import Entropy
from identity_server.settings import Settings

Template = Literal["verification", "invitation"]

_MESSAGE_ID_LENGTH = 24

log = structlog.get_logger(__name__)


class Outlet(Protocol):
    """Callers name a message and give its values (``templates.py`` lists them); it is rendered in ``language``, a tag
    or an Accept-Language header, as nearly as templates exist."""

    async def send_email(
        self, address: str, template: Template, language: str | None, context: Mapping[str, Any]
    ) -> None:
        """Raises ``EmailSendError``."""

    async def send_sms(self, msisdn: str, template: Template, language: str | None, context: Mapping[str, Any]) -> None:
        """``msisdn``: E.164 without ``+``. Raises ``SendError`` or ``DestinationRejected``."""


OpenOutlet = Annotated[Outlet, opened("outlet")]


class NetworkOutlet:
    """Renders, and hands over to a mail server or an SMS gateway; counts what came of it, and says why it failed
    without saying to whom."""

    def __init__(
        self,
        settings: Settings,
        templates: Templates,
        smtp: SmtpConnections,
        sms: SmsRoutes,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._sender = Sender.parse(settings.email.sender, settings.server.name)
        self._server_name = settings.server.name
        self._templates = templates
        self._smtp = smtp
        self._sms = sms
        self._clock = clock
        self._entropy = entropy

    async def send_email(
        self, address: str, template: Template, language: str | None, context: Mapping[str, Any]
    ) -> None:
        try:
            mail = self._templates.mail(template, language, {"server_name": self._server_name, **context})
            await self._smtp.deliver(
                compose(
                    self._sender,
                    address,
                    mail.subject,
                    mail.text,
                    mail.html,
                    message_id=self._entropy.token(_MESSAGE_ID_LENGTH),
                    now_ms=self._clock.now_ms(),
                )
            )
        except EmailSendError as error:
            _count_failure(EMAIL, template, error.__cause__)
            raise
        except (TemplateError, ValueError) as error:
            _count_failure(EMAIL, template, error)
            raise EmailSendError("The email could not be written") from error
        MESSAGES.labels(EMAIL, "sent").inc()

    async def send_sms(self, msisdn: str, template: Template, language: str | None, context: Mapping[str, Any]) -> None:
        try:
            text = self._templates.sms(template, language, {"server_name": self._server_name, **context})
            await self._sms.send(msisdn, text)
        except DestinationRejected:
            MESSAGES.labels(MSISDN, "rejected").inc()
            raise
        except SendError as error:
            _count_failure(MSISDN, template, error.__cause__)
            raise
        except TemplateError as error:
            _count_failure(MSISDN, template, error)
            raise SendError("The SMS could not be written") from error
        MESSAGES.labels(MSISDN, "sent").inc()


def _count_failure(medium: str, template: Template, cause: BaseException | None) -> None:
    MESSAGES.labels(medium, "failed").inc()
    log.warning(
        "message_not_sent",
        medium=medium,
        template=template,
        reason=type(cause).__name__ if cause else None,
        reply_code=getattr(cause, "code", None),
        # Other causes may quote the address.
        detail=str(cause) if isinstance(cause, TemplateError) else None,
    )


@asynccontextmanager
async def open_outlet(
    settings: Settings, clock: Clock, entropy: Entropy, *, ca_file: Path | None = None
) -> AsyncIterator[NetworkOutlet]:
    """The way out that ``settings`` describe. ``ca_file``: authorities to trust for mail servers beside the system's.

    Connects to nothing yet. Raises ``ValueError`` for an unusable ``email.smtp_url`` or ``email.sender``.
    """
    sms = SmsRoutes(settings.sms)
    templates = Templates(settings.email.template_dir, settings.email.language)
    smtp = smtp_connections(settings, ca_file=ca_file)
    try:
        yield NetworkOutlet(settings, templates, smtp, sms, clock, entropy)
    finally:
        sms.close()
        await smtp.aclose()


def smtp_connections(settings: Settings, *, ca_file: Path | None = None) -> SmtpConnections:
    """To the mail server of ``settings``; nothing is connected yet. Raises ``ValueError``."""
    return SmtpConnections(
        SmtpServer.parse(settings.email.smtp_url),
        ehlo_name=mail_domain(settings.server.name),
        timeout_ms=settings.email.timeout,
        max_connections=settings.email.max_connections,
        ca_file=ca_file,
    )


@dataclass(frozen=True)
class Sent:
    """A message as it was asked for, and as it would have left (``subject`` and ``html`` are for mails)."""

    recipient: str
    template: Template
    language: str | None
    context: Mapping[str, Any]
    text: str
    subject: str | None = None
    html: str | None = None


@dataclass
class RecordingOutlet:
    """Renders what it is given and keeps it instead of sending it, or fails if it is told to."""

    sent: list[Sent] = field(default_factory=list)
    failing: bool = False
    templates: Templates = field(default_factory=Templates)

    async def send_email(
        self, address: str, template: Template, language: str | None, context: Mapping[str, Any]
    ) -> None:
        if self.failing:
            raise EmailSendError("The email could not be sent")
        mail = self.templates.mail(template, language, {"server_name": "is.test", **context})
        self.sent.append(Sent(address, template, language, context, mail.text, mail.subject, mail.html))

    async def send_sms(self, msisdn: str, template: Template, language: str | None, context: Mapping[str, Any]) -> None:
        if self.failing:
            raise SendError("The SMS could not be sent")
        text = self.templates.sms(template, language, {"server_name": "is.test", **context})
        self.sent.append(Sent(msisdn, template, language, context, text))
