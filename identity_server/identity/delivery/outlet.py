"""How a message leaves, as the rest of the server sees it; and the recording fake beside the real one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

from identity_server.matrix.errors import EmailSendError, SendError
from identity_server.runtime.dependencies import opened

Template = Literal["verification", "invitation"]


class Outlet(Protocol):
    """Callers name a message and give its values; it is rendered in ``language`` (a tag, or an Accept-Language
    header) as nearly as templates exist."""

    async def send_email(
        self, address: str, template: Template, language: str | None, context: Mapping[str, Any]
    ) -> None:
        """Raises ``EmailSendError``."""

    async def send_sms(self, msisdn: str, template: Template, language: str | None, context: Mapping[str, Any]) -> None:
        """``msisdn``: E.164 without ``+``. Raises ``SendError`` or ``DestinationRejected``."""


OpenOutlet = Annotated[Outlet, opened("outlet")]


@dataclass(frozen=True)
class Sent:
    recipient: str
    template: Template
    language: str | None
    context: Mapping[str, Any]


@dataclass
class RecordingOutlet:
    """Keeps what it is given instead of sending it, or fails if it is told to."""

    sent: list[Sent] = field(default_factory=list)
    failing: bool = False

    async def send_email(
        self, address: str, template: Template, language: str | None, context: Mapping[str, Any]
    ) -> None:
        if self.failing:
            raise EmailSendError("The email could not be sent")
        self.sent.append(Sent(address, template, language, context))

    async def send_sms(self, msisdn: str, template: Template, language: str | None, context: Mapping[str, Any]) -> None:
        if self.failing:
            raise SendError("The SMS could not be sent")
        self.sent.append(Sent(msisdn, template, language, context))
