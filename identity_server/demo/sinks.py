"""Where the demo's messages end: a real SMTP server, an SMS gateway's API, and the inbox that both fill."""

import asyncio
import email
import email.policy
import socket
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from aiosmtpd.smtp import SMTP, Envelope
from fastapi import APIRouter, FastAPI, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from identity_server.demo.journal import Journal
from identity_server.demo.pages.inbox import Message, inbox_headers, inbox_page
from identity_server.runtime.clock import Clock

_KEPT = 500
_PATIENCE_SECONDS = 10


class Inbox:
    """The newest messages, oldest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._received = 0
        self._arrived = asyncio.Condition()
        self.messages: deque[Message] = deque(maxlen=_KEPT)

    async def add_mail(self, recipient: str, content: bytes) -> None:
        parsed = email.message_from_bytes(content, policy=email.policy.default)
        text, html = parsed.get_body(("plain",)), parsed.get_body(("html",))
        await self._add(
            medium="email",
            sender=str(parsed["from"]),
            recipient=recipient,
            subject=str(parsed["subject"]),
            text=_with_newlines(text.get_content()) if text else "",
            html=_with_newlines(html.get_content()) if html else None,
        )

    async def add_sms(self, sender: str, recipient: str, text: str) -> None:
        await self._add(medium="msisdn", sender=sender, recipient=recipient, subject="", text=text, html=None)

    async def newest_for(self, recipient: str, *, unlike: Collection[str] = ()) -> Message:
        """The newest message to ``recipient`` that is none of ``unlike`` (IDs), waiting for it if there is none yet.

        Raises ``TimeoutError``.
        """
        async with asyncio.timeout(_PATIENCE_SECONDS), self._arrived:
            while True:
                for message in reversed(self.messages):
                    if message.recipient == recipient and message.id not in unlike:
                        return message
                await self._arrived.wait()

    async def _add(self, **message: Any) -> None:
        self._received += 1
        self.messages.append(Message(id=str(self._received), received_ts=self._clock.now_ms(), **message))
        async with self._arrived:
            self._arrived.notify_all()


def _with_newlines(text: str) -> str:
    return text.replace("\r\n", "\n")


class _MailHandler:
    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Envelope) -> str:  # noqa: N802 (aiosmtpd calls it so)
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        for recipient in envelope.rcpt_tos:
            await self._inbox.add_mail(recipient, content)
        return "250 It is in the inbox"


@asynccontextmanager
async def mail_server(inbox: Inbox, listener: socket.socket) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(_MailHandler(inbox), hostname="mail.localhost", enable_SMTPUTF8=True, loop=loop), sock=listener
    )
    try:
        yield
    finally:
        server.close()


class _Sms(BaseModel):
    """What Apprise's ``json://`` posts, with the fields that the route adds."""

    model_config = ConfigDict(extra="ignore")

    to: str
    sender: Annotated[str, Field(alias="from")] = ""
    message: str


def inbox_application(inbox: Inbox, journal: Journal, links: Mapping[str, str]) -> FastAPI:
    """The page for people, and the SMS gateway beside it."""
    router = APIRouter()

    @router.get("/")
    async def show(message: Annotated[str | None, Query()] = None) -> HTMLResponse:
        page = inbox_page(list(inbox.messages), message, journal.steps(), links)
        return HTMLResponse(page, headers=inbox_headers())

    @router.post("/sms", status_code=204)
    async def receive_sms(sms: _Sms) -> None:
        await inbox.add_sms(sms.sender, sms.to, sms.message)

    app = FastAPI(title="Demo inbox", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router)
    return app
