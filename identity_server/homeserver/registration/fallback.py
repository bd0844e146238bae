"""Pages for clients that do not know a stage of registering (Client-Server API, "Fallback")."""

from html import escape
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from identity_server.homeserver.accounts.interactive import Attempt, AuthenticationNeeded, prove
from identity_server.homeserver.registration.flows import TERMS, wanted_of
from identity_server.homeserver.validation.own_account import OpenOwnAccount
from identity_server.matrix.errors import Unrecognized
from identity_server.matrix.identifiers import Text
from identity_server.runtime.dependencies import Limits, Now, OpenDatabase, OpenSettings, Random, Source
from identity_server.runtime.requests import parse_form

router = APIRouter(prefix="/auth", tags=["registration"])

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; form-action 'self'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# As the specification has it.
_DONE = """<p>Thank you. You may close this window.</p><script>
if (window.onAuthDone) { window.onAuthDone(); }
else if (window.opener && window.opener.postMessage) { window.opener.postMessage("authDone", "*"); }
</script>"""


@router.get("/{stage}/fallback/web")
async def show(stage: str, session: Text, settings: OpenSettings, own: OpenOwnAccount) -> HTMLResponse:
    params = wanted_of(settings.homeserver, own).params
    return _page(_form(stage, session, params))


@router.post("/{stage}/fallback/web")
async def take(
    stage: str,
    session: Text,
    request: Request,
    settings: OpenSettings,
    own: OpenOwnAccount,
    database: OpenDatabase,
    limits: Limits,
    source: Source,
    entropy: Random,
    now_ms: Now,
) -> HTMLResponse:
    await limits.hit("registration_per_source", source)
    wanted = wanted_of(settings.homeserver, own)
    form = _form(stage, session, wanted.params)
    attempt = Attempt.model_validate({**parse_form(await request.body()), "type": stage, "session": session})
    try:
        await prove(database, attempt, wanted, entropy=entropy, now_ms=now_ms)
    except AuthenticationNeeded as needed:
        if stage not in needed.body.get("completed", ()):
            return _page(f"<p>{escape(str(needed.body.get('error', '')))}</p>{form}", status=403)
    return _page(_DONE)


def _form(stage: str, session: str, params: Any) -> str:
    """Raises ``Unrecognized`` for a stage that has no page."""
    action = escape(f"?{urlencode({'session': session})}")
    match stage:
        case "m.login.terms" if TERMS in params:
            asked = f"<p>To register you accept:</p><ul>{_documents(params[TERMS]['policies'])}</ul>"
            button = "Accept"
        case "m.login.registration_token":
            asked = '<p><label>Registration token: <input name="token" required autofocus></label></p>'
            button = "Continue"
        case "m.login.dummy":
            asked, button = "", "Continue"
        case _:
            raise Unrecognized("There is no page for this stage")
    return f'<form method="post" action="{action}">{asked}<button>{button}</button></form>'


def _documents(policies: dict[str, Any]) -> str:
    texts = [next(text for name, text in policy.items() if name != "version") for policy in policies.values()]
    return "".join(f'<li><a href="{escape(t["url"])}" target="_blank">{escape(t["name"])}</a></li>' for t in texts)


def _page(content: str, status: int = 200) -> HTMLResponse:
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return HTMLResponse(f"{head}<title>Registration</title><body>{content}</body></html>", status, _HEADERS)
