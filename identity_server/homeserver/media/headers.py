"""How content is served, so that it does no harm to who looks at it ("Serving inline content")."""

import re
from urllib.parse import quote, unquote

_INLINE = {
    *("text/css", "text/plain", "text/csv", "application/json", "application/ld+json"),
    *("image/jpeg", "image/gif", "image/png", "image/apng", "image/webp", "image/avif"),
    *("video/mp4", "video/webm", "video/ogg", "video/quicktime"),
    *("audio/mp4", "audio/webm", "audio/aac", "audio/mpeg", "audio/ogg", "audio/wave", "audio/wav"),
    *("audio/x-wav", "audio/x-pn-wav", "audio/flac", "audio/x-flac"),
}
DEFAULT_TYPE = "application/octet-stream"
_LONGEST = 255

_CONTENT_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:\s*;\s*[\x20-\x7e]*)?", re.ASCII)
_TOKEN = re.compile(r"[\w!#$&+.^`|~-]+", re.ASCII)
_QUOTABLE = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")
# RFC 6266: `filename*` is preferred, quotes around `filename` are optional.
_EXTENDED_NAME = re.compile(r"filename\*\s*=\s*(?:utf-8|us-ascii)'[^']*'([^\s;]+)", re.IGNORECASE)
_NAME = re.compile(r"""filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;]+))""", re.IGNORECASE)

SAFETY = {
    "Content-Security-Policy": "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; "
    "style-src 'unsafe-inline'; object-src 'self';",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, max-age=86400, immutable",
    "Referrer-Policy": "no-referrer",
}


def clean_content_type(told: str | None) -> str:
    """What is kept and served as the content's type: what was told, where it is one."""
    told = (told or "").strip()
    return told if _CONTENT_TYPE.fullmatch(told) and len(told) <= _LONGEST else DEFAULT_TYPE


def clean_file_name(told: str | None) -> str | None:
    """None for none, and for what cannot be kept."""
    if not told or "\0" in told or len(told) > _LONGEST:
        return None
    return told


def content_headers(content_type: str, file_name: str | None) -> dict[str, str]:
    is_harmless = content_type.partition(";")[0].strip().lower() in _INLINE
    return {
        "Content-Type": content_type,
        "Content-Disposition": disposition("inline" if is_harmless else "attachment", file_name),
    }


def disposition(kind: str, file_name: str | None) -> str:
    """The value of ``Content-Disposition`` (RFC 6266)."""
    if not file_name:
        return kind
    if _TOKEN.fullmatch(file_name):
        return f"{kind}; filename={file_name}"
    if _QUOTABLE.fullmatch(file_name):
        return f'{kind}; filename="{file_name}"'
    return f"{kind}; filename*=utf-8''{quote(file_name, safe='')}"


def file_name_in(content_disposition: str) -> str | None:
    """The name that another server gives."""
    if found := _EXTENDED_NAME.search(content_disposition):
        return clean_file_name(unquote(found[1]))
    if found := _NAME.search(content_disposition):
        quoted: str | None = found[1]
        return clean_file_name(re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else found[2])
    return None
