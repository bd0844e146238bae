"""The pages behind the link in a message: whole HTML documents that need no JavaScript and load nothing.

They name the server and never the address, so that a link which leaks tells nobody whose it was.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.resources import files
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from identity_server.identity.delivery.templates import preferred_language
from identity_server.identity.web.wording import WORDING, Medium, Reason

# Schemes whose "links" are content of their own.
_NEVER_LINKED = frozenset({"javascript", "data", "vbscript", "blob", "file"})

_STYLE = files(__package__).joinpath("templates/style.css").read_text(encoding="utf-8")
_STYLE_SOURCE = f"'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
_TEMPLATES = Environment(
    loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def confirm_page(
    *, server_name: str, medium: str, action: str, fields: Mapping[str, str], accept_language: str | None
) -> str:
    """Asks for the one click that proves ownership: a mail scanner opens the link too, but does not press a button.

    ``fields`` are sent to ``action`` by POST, form-encoded. Raises ValueError for a medium that has no pages.
    """
    known = _known(medium)
    return _render(
        "confirm.html",
        server_name,
        accept_language,
        medium=known,
        words=WORDING[_language(accept_language)].confirm[known],
        action=action,
        fields=fields,
    )


def verified_page(*, server_name: str, medium: str, next_link: str | None, accept_language: str | None) -> str:
    """Says that the address is proven, and offers to go on to ``next_link``, which the caller has admitted.

    Raises ValueError for a medium that has no pages.
    """
    known = _known(medium)
    next_host = None
    if next_link is not None:
        scheme, next_host = _scheme_and_host(next_link)
        if scheme in _NEVER_LINKED:
            next_link = next_host = None
    return _render(
        "verified.html",
        server_name,
        accept_language,
        medium=known,
        words=WORDING[_language(accept_language)].verified[known],
        next_link=next_link,
        next_host=next_host,
    )


def failed_page(*, server_name: str, medium: str, reason: Reason, accept_language: str | None) -> str:
    """Says what went wrong and what to do next. Raises ValueError for a medium that has no pages."""
    known = _known(medium)
    return _render(
        "failed.html",
        server_name,
        accept_language,
        medium=known,
        words=WORDING[_language(accept_language)].failed[known][reason],
    )


def page_headers(form_targets: Iterable[str] = ()) -> dict[str, str]:
    """The headers of every page.

    ``form_targets`` are the URLs or origins to which the answer to the form may redirect: browsers hold a redirect
    after a form to ``form-action`` as well. What a policy cannot express is left out, and so stays forbidden.
    """
    targets = dict.fromkeys(source for target in form_targets if (source := _policy_source(target)) is not None)
    policy = [
        "default-src 'none'",
        f"style-src {_STYLE_SOURCE}",
        " ".join(["form-action 'self'", *targets]),
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
    return {
        "Content-Security-Policy": "; ".join(policy),
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Vary": "Accept-Language",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "X-Robots-Tag": "noindex",
    }


def _render(template: str, server_name: str, accept_language: str | None, **values: object) -> str:
    language = _language(accept_language)

    def fill(sentence: str, **places: str) -> Markup:
        named = {place: Markup('<span class="name">{}</span>').format(value) for place, value in places.items()}
        return escape(sentence).format(server=Markup('<b class="name">{}</b>').format(server_name), **named)

    return _TEMPLATES.get_template(template).render(
        language=language,
        common=WORDING[language],
        server_name=server_name,
        style=_STYLE,
        fill=fill,
        **values,
    )


def _language(accept_language: str | None) -> str:
    return preferred_language(accept_language, WORDING) or "en"


def _known(medium: str) -> Medium:
    if medium == "email":
        return "email"
    if medium == "msisdn":
        return "msisdn"
    raise ValueError(f"There are no pages for the medium {medium!r}")


def _scheme_and_host(url: str) -> tuple[str, str | None]:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        return "", None
    return parts.scheme, host


def _policy_source(target: str) -> str | None:
    """A URL's origin as Content Security Policy writes it, or the bare scheme of an app's own link."""
    try:
        parts = urlsplit(target)
        port = f":{parts.port}" if parts.port is not None else ""
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError:
        return None
    if parts.scheme in ("http", "https"):
        expressible = host and all(character.isalnum() or character in "-." for character in host)
        return f"{parts.scheme}://{host}{port}" if expressible else None
    return f"{parts.scheme}:" if parts.scheme and parts.scheme not in _NEVER_LINKED else None
