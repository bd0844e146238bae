"""What a person sees who follows the link in a message (Identity Service API, GET …/submitToken).

The link carries no bearer token, whatever the specification's OpenAPI says: a mail program opens it. So do mail
scanners: unless ``validation.confirm_links`` is off, GET changes nothing and asks for a click.
"""

from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from identity_server.identity.validation.api import Medium
from identity_server.identity.validation.submit_token import submit_token
from identity_server.identity.web.pages import confirm_page, failed_page, page_headers, verified_page
from identity_server.identity.web.wording import Reason
from identity_server.matrix.errors import (
    BadJson,
    LimitExceeded,
    MatrixError,
    MissingParams,
    NoValidSession,
    SessionExpired,
    TokenIncorrect,
)
from identity_server.runtime.dependencies import OpenResources, Source
from identity_server.runtime.errors import error_response
from identity_server.runtime.requests import parse_form
from identity_server.runtime.resources import Resources

router = APIRouter(prefix="/_matrix/identity", tags=["pages"])

# A header holds ASCII only (RFC 3986, sections 2.2 and 2.1: what is encoded already stays so).
_URL_CHARACTERS = ":/?#[]@!$&'()*+,;=%"
_CONFIRM_PATH = "/_matrix/identity/io.identity_server/confirm"


@router.get("/v2/validate/{medium}/submitToken", response_class=Response)
async def open_link(
    medium: Medium,
    request: Request,
    resources: OpenResources,
    source: Source,
    sid: str = "",
    client_secret: str = "",
    token: str = "",
) -> Response:
    if not (sid and client_secret and token):
        return _failed(MissingParams("The link is incomplete"), medium, request, resources)
    if not resources.settings.validation.confirm_links:
        return await _submit(medium, sid, client_secret, token, request, resources, source)
    page = confirm_page(
        server_name=resources.settings.server.name,
        medium=medium,
        action=f"{_CONFIRM_PATH}/{medium}",
        fields={"sid": sid, "client_secret": client_secret, "token": token},
        accept_language=request.headers.get("accept-language"),
    )
    # Browsers hold a form's redirect, too, against the policy of the page that the form is on.
    targets = resources.settings.validation.next_link_origins
    return Response(page, headers=page_headers(targets), media_type="text/html")


@router.post("/io.identity_server/confirm/{medium}", response_class=Response)
async def confirm(medium: Medium, request: Request, resources: OpenResources, source: Source) -> Response:
    """The click on the page above."""
    body = await request.body()
    try:
        form = parse_form(body)
    except BadJson as error:
        return _failed(error, medium, request, resources)
    sid, client_secret, token = (str(form.get(name, "")) for name in ("sid", "client_secret", "token"))
    return await _submit(medium, sid, client_secret, token, request, resources, source)


async def _submit(
    medium: Medium,
    sid: str,
    client_secret: str,
    token: str,
    request: Request,
    resources: Resources,
    source: str,
) -> Response:
    settings = resources.settings
    try:
        await resources.limits.hit("submit_token_per_source", source)
        if "\0" in sid + client_secret + token:
            raise NoValidSession("No session has such an ID")
        async with resources.database.transaction() as session:
            validated = await submit_token(
                session,
                medium,
                sid,
                client_secret,
                token,
                settings=settings.validation,
                now_ms=resources.clock.now_ms(),
            )
    except MatrixError as error:
        return _failed(error, medium, request, resources)
    page = verified_page(
        server_name=settings.server.name,
        medium=medium,
        next_link=validated.next_link,
        accept_language=request.headers.get("accept-language"),
    )
    if validated.next_link is None:
        return Response(page, headers=page_headers(), media_type="text/html")
    location = quote(validated.next_link, safe=_URL_CHARACTERS)
    return Response(page, 303, {**page_headers(), "Location": location}, media_type="text/html")


def _failed(error: MatrixError, medium: Medium, request: Request, resources: Resources) -> Response:
    page = failed_page(
        server_name=resources.settings.server.name,
        medium=medium,
        reason=_reason(error),
        accept_language=request.headers.get("accept-language"),
    )
    answer = Response(page, error.status, page_headers(), media_type="text/html")
    if isinstance(error, LimitExceeded):
        answer.headers["Retry-After"] = error_response(error).headers["Retry-After"]
    return answer


def _reason(error: MatrixError) -> Reason:
    match error:
        case TokenIncorrect():
            return "incorrect"
        case SessionExpired():
            return "expired"
        case LimitExceeded():
            return "too_often"
        case _:
            return "unknown"
