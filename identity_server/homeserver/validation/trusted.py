"""Which identity servers this homeserver believes when they say what somebody has proven."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from identity_server.matrix.errors import InvalidParam, ServerNotTrusted, ThreepidMediumNotSupported


def base_url_of(id_server: str) -> str:
    """Where the identity server is that somebody calls ``id_server``: a host with an optional port, or a URL.

    Raises ``InvalidParam``.
    """
    base_url = (id_server if "://" in id_server else f"https://{id_server}").rstrip("/")
    try:
        if not urlsplit(base_url).netloc:
            raise ValueError("no host")
    except ValueError as error:
        raise InvalidParam("id_server names no identity server") from error
    return base_url


@dataclass(frozen=True)
class TrustedServers:
    """Base URLs; the first is asked where nobody names one."""

    urls: Sequence[str]

    @classmethod
    def configured(cls, identity_servers: Sequence[str]) -> "TrustedServers":
        return cls([base_url_of(id_server) for id_server in identity_servers])

    def url(self, id_server: str | None) -> str:
        """The base URL of the trusted server that ``id_server`` names, by its name or its URL.

        Raises ``ServerNotTrusted``, and ``ThreepidMediumNotSupported`` if none is named and none is trusted.
        """
        if not id_server:
            if not self.urls:
                raise ThreepidMediumNotSupported("This homeserver validates no third-party identifiers")
            return self.urls[0]
        return self.known(id_server) or self._refuse()

    def known(self, id_server: str) -> str | None:
        """As ``url``, and None if the server is not trusted. A trusted one may have a URL that is not HTTPS."""
        wanted = urlsplit(base_url_of(id_server)).netloc.lower()
        return next((url for url in self.urls if urlsplit(url).netloc.lower() == wanted), None)

    def _refuse(self) -> str:
        raise ServerNotTrusted("This homeserver does not trust that identity server")
