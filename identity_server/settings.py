"""Every setting, one frozen section per concern, each with a default that works.

Read from a TOML file, then from environment variables ``IDENTITY_SERVER_<SECTION>__<KEY>``, which win.
An unknown key is an error that names it. Durations are written as "90s", "15m", "24h", "30d", or as a number of
milliseconds; in the code they are always milliseconds.
"""

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from identity_server.matrix.identifiers import ServerName

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"\s*(\d+)\s*(ms|s|m|h|d)\s*")


def _duration_ms(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.strip().isdecimal():
        return int(value)
    if match := _DURATION.fullmatch(value):
        return int(match[1]) * _UNITS_MS[match[2]]
    raise ValueError('write a duration as "90s", "15m", "24h" or "30d"')


Duration = Annotated[int, BeforeValidator(_duration_ms), Field(ge=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(Section):
    name: ServerName = "localhost"
    """The name that signs associations, and by which clients and homeservers know this server."""
    aliases: tuple[str, ...] = ()
    """Other names by which homeservers address us in signed requests (host names, with port if they use one)."""
    public_base_url: str = ""
    """Where people and servers reach us, without trailing slash; by default http://<name>:<port>."""
    bind: str = "127.0.0.1"
    port: Port = 8090
    workers: PositiveInt = 1
    data_dir: Path = Path("data")
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses whose X-Forwarded-For header is believed; it matters for rate limits."""
    max_body_bytes: PositiveInt = 1024 * 1024


class DatabaseSettings(Section):
    url: str = ""
    """``sqlite:///path`` or ``postgresql://…``; by default SQLite in ``server.data_dir``."""
    replica_url: str = ""
    """A PostgreSQL read replica for lookups."""
    pool_size: PositiveInt = 10


class EmailSettings(Section):
    smtp_url: str = "smtp://localhost:25"
    """``smtp://`` takes STARTTLS when offered, ``smtp+starttls://`` insists on it, ``smtps://`` begins with TLS."""
    sender: str = ""
    """The From address; by default noreply@<server.name>."""
    ca_file: Path | None = None
    """A file of certificate authorities to trust for the mail server, beside the system's."""
    template_dir: Path | None = None
    """A folder of templates that take precedence over the shipped ones: ``<language>/<message>.txt`` and so on."""
    language: str = "en"
    """The language for recipients whose own is not known."""
    timeout: Duration = 30_000
    max_connections: PositiveInt = 20
    web_client_url: str = "https://app.element.io"
    """The web client that invitations point to."""


class SmsRoute(Section):
    prefix: str = ""
    """Digits of E.164 without ``+``; the longest that matches is tried first. Empty matches every number."""
    url: str
    """An Apprise URL; ``{originator}`` in it is replaced."""
    originator: str = ""


class SmsSettings(Section):
    routes: tuple[SmsRoute, ...] = ()
    allowed_prefixes: tuple[str, ...] = ()
    """If any are given, only numbers beginning with one of them are sent to."""
    timeout: Duration = 30_000


class ValidationSettings(Section):
    session_lifetime: Duration = 86_400_000
    max_wrong_tokens: PositiveInt = 10
    """After so many wrong tokens a session is dead, and a new one has to be begun."""
    next_link_origins: tuple[str, ...] = ()
    """Origins that ``next_link`` may lead to, such as "https://app.example.org"; our own always may."""
    confirm_links: bool = True
    """A link from a mail asks for one click before it counts (mail scanners open links too)."""


class LookupSettings(Section):
    algorithms: tuple[Literal["sha256", "none"], ...] = ("sha256",)
    rotate_pepper_after: Duration = 0
    """How old the pepper grows before it is replaced; 0: only by command."""
    grace_period: Duration = 86_400_000
    """How long the old pepper is still accepted."""
    max_addresses: PositiveInt = 10_000

    @field_validator("algorithms")
    @classmethod
    def _contain_sha256(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Identity Service API, GET /hash_details.
        if "sha256" not in value:
            raise ValueError('"sha256" has to be among them')
        return value


class InviteSettings(Section):
    lifetime: Duration = 90 * 86_400_000
    """How long an invitation waits for its invitee."""
    msisdn: bool = False
    """Invite phone numbers by SMS (beyond the specification)."""


class PolicySettings(Section):
    """One document, in several languages."""

    version: str
    languages: dict[str, "PolicyText"]


class PolicyText(Section):
    name: str
    url: str


class TermsSettings(Section):
    policies: dict[str, PolicySettings] = {}


class AccountSettings(Section):
    token_lifetime: Duration = 0
    """How long an access token lives; 0: until it is revoked."""


class FederationSettings(Section):
    verify_certificates: bool = True
    ca_file: Path | None = None
    """A file of certificate authorities to trust beside the system's."""
    allowed_private_networks: tuple[IPvAnyNetwork, ...] = ()
    """Networks that outbound requests may reach although they are private or loopback."""
    homeserver_allow_list: tuple[str, ...] = ()
    """If any are given, only users of these homeservers may register."""
    trusted_key_servers: tuple[str, ...] = ()
    """Servers that the homeserver believes about the keys of servers that it cannot ask itself."""
    timeout: Duration = 30_000


class ReplicationSettings(Section):
    listen_port: Port = 0
    """The mutual TLS port for peers that speak Sydent's protocol; 0: off."""
    bind: str = "0.0.0.0"  # noqa: S104 (the port is off by default, and shut to whoever has no certificate)
    certificate: Path | None = None
    """One PEM file with the key and the certificate that we show such peers, as client and as server."""
    ca_file: Path | None = None
    """The authorities, and no others, that vouch for the certificates of such peers."""
    pull_interval: Duration = 60_000
    """How often each peer's log is asked for what a push may have missed."""
    max_pause: Duration = 300_000
    """The longest pause before a peer that is down is tried again."""
    max_clock_skew: Duration = 300_000
    """How far a peer's clock may be ahead of ours."""

    @model_validator(mode="after")
    def _has_certificates(self) -> Self:
        if self.listen_port and not (self.certificate and self.ca_file):
            raise ValueError("listen_port needs a certificate and a ca_file")
        return self


class CompatibilitySettings(Section):
    v1_api: Literal["off", "msisdn_only", "all"] = "off"
    v1_callers: tuple[IPvAnyNetwork, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    """Only these addresses may call the v1 API, which knows no tokens."""
    query_token: Literal["off", "hash_details_only", "all"] = "hash_details_only"
    """Where an access token is accepted in the query string; homeservers still send it so to /hash_details."""


class RateLimitSettings(Section):
    """Rates as the limits library writes them: "20/minute; 100/day". An empty string switches one off."""

    enabled: bool = True
    storage: str = "memory://"
    """``memory://`` (per process), or ``redis://…`` for all workers together."""
    request_token_per_address: str = "6/10minutes; 20/day"
    request_token_per_account: str = "30/10minutes; 200/day"
    request_token_per_prefix: str = "300/10minutes; 3000/day"
    """Per country calling code and three digits of phone numbers, against pumping of SMS fees."""
    request_token_per_source: str = "60/10minutes; 1000/day"
    submit_token_per_source: str = "120/minute"
    store_invite_per_account: str = "60/10minutes; 500/day"
    store_invite_per_address: str = "10/hour; 30/day"
    unbind_per_source: str = "120/minute"
    """What a homeserver signs makes us fetch the keys of whichever server it names."""
    register_per_source: str = "60/minute; 1000/hour"
    lookup_per_account: str = "120/minute; 2000/hour"
    lookup_per_source: str = "600/minute"
    replication_per_peer: str = "3000/minute"
    login_per_user: str = "20/10minutes; 200/day"
    """Of wrong passwords. This and the rest are for the bundled homeserver."""
    login_per_source: str = "1200/10minutes; 20000/day"
    registration_per_source: str = "1200/10minutes; 20000/day"
    onbind_per_source: str = "600/minute"
    profile_per_source: str = "1200/minute"
    user_directory_per_user: str = "300/minute"
    upload_per_user: str = "600/10minutes; 10000/day"
    key_query_per_source: str = "600/minute"


class LoggingSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    """``auto``: for people on a terminal, JSON elsewhere."""


class AdminSettings(Section):
    """Where /health, /ready and /metrics are served, apart from the public port."""

    bind: str = "127.0.0.1"
    port: Port = 8091
    """0: off (health and readiness are then still answered on the public port)."""


class HomeserverSettings(Section):
    """The bundled homeserver; it shares nothing with the identity server but this file."""

    name: ServerName = "localhost:8448"
    bind: str = "127.0.0.1"
    port: Port = 8008
    federation_port: Port = 8448
    public_base_url: str = ""
    """The client API's address; by default http://<bind>:<port>."""
    data_dir: Path | None = None
    """By default ``server.data_dir``/homeserver."""
    federation_address: str = ""
    """Where other servers find this one if its name has no port, told by /.well-known/matrix/server; by default
    <name>:<federation_port>."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    """Without a certificate one is made for the server's name, signed by a new authority in ``data_dir``."""
    database_url: str = ""
    registration: bool = False
    """Whether anybody may register."""
    registration_requires: tuple[Literal["email", "msisdn"], ...] = ()
    """What has to be proven for that, at the first of ``identity_servers``."""
    registration_tokens: tuple[str, ...] = ()
    """If any are given, only who has one of them may register."""
    registration_policies: dict[str, PolicySettings] = {}
    """What has to be accepted for that; written as in ``[terms.policies]``."""
    default_room_version: Literal["6", "7", "8", "9", "10", "11", "12"] = "12"
    """Of rooms for which their creator names none."""
    access_token_lifetime: Duration = 3_600_000
    """How long the access tokens of clients live that can refresh them; others live until they are revoked."""
    hide_known_addresses: bool = False
    """Whether requests for a token seem to succeed also where an address is in use, or unknown, against the request;
    nobody learns then who has an account, nor that they mistyped their address."""
    identity_servers: tuple[str, ...] = ()
    """Base URLs or names of the identity servers that this homeserver trusts; the first is offered to clients."""
    max_upload_bytes: PositiveInt = 50 * 1024 * 1024
    """The largest file that is taken from users, and from other servers for them."""
    max_media_bytes_per_user: int = Field(default=0, ge=0)
    """How much one user may have uploaded in all; 0: as much as there is room for."""
    max_remote_media_bytes: PositiveInt = 10 * 1024 * 1024 * 1024
    """How much of other servers' media is kept; the oldest goes first."""
    unauthenticated_media: bool = True
    """Whether media can be had without a token too, by the deprecated endpoints that older clients use."""
    turn_uris: tuple[str, ...] = ()
    """TURN servers for calls, such as "turn:turn.example.org:3478?transport=udp"."""
    turn_secret: str = ""
    """What is shared with the TURN servers (coturn's static-auth-secret); without one, the next two are given out."""
    turn_username: str = ""
    turn_password: str = ""
    turn_lifetime: Duration = 86_400_000


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="IDENTITY_SERVER_", env_nested_delimiter="__"
    )

    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    email: EmailSettings = EmailSettings()
    sms: SmsSettings = SmsSettings()
    validation: ValidationSettings = ValidationSettings()
    lookup: LookupSettings = LookupSettings()
    invites: InviteSettings = InviteSettings()
    terms: TermsSettings = TermsSettings()
    accounts: AccountSettings = AccountSettings()
    federation: FederationSettings = FederationSettings()
    replication: ReplicationSettings = ReplicationSettings()
    compatibility: CompatibilitySettings = CompatibilitySettings()
    rate_limits: RateLimitSettings = RateLimitSettings()
    logging: LoggingSettings = LoggingSettings()
    admin: AdminSettings = AdminSettings()
    homeserver: HomeserverSettings = HomeserverSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings, init_settings)

    @property
    def public_base_url(self) -> str:
        scheme = "https" if self.server.tls_certificate else "http"
        host = self.server.name.partition(":")[0]
        return (self.server.public_base_url or f"{scheme}://{host}:{self.server.port}").rstrip("/")

    @property
    def our_names(self) -> frozenset[str]:
        """Every name by which a signed request may address the identity server."""
        return frozenset({self.server.name, urlsplit(self.public_base_url).netloc, *self.server.aliases})

    @property
    def signing_key_file(self) -> Path:
        return self.server.data_dir / "signing.key"

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.server.data_dir / 'identity.db'}"

    @property
    def homeserver_data_dir(self) -> Path:
        return self.homeserver.data_dir or self.server.data_dir / "homeserver"

    @property
    def homeserver_database_url(self) -> str:
        return self.homeserver.database_url or f"sqlite:///{self.homeserver_data_dir / 'homeserver.db'}"

    @property
    def homeserver_base_url(self) -> str:
        homeserver = self.homeserver
        return (homeserver.public_base_url or f"http://{homeserver.bind}:{homeserver.port}").rstrip("/")


def read_settings(file: Path | None = None) -> Settings:
    """The settings of this process. Raises ``pydantic.ValidationError``, ``OSError`` or ``tomllib.TOMLDecodeError``."""
    if file is None:
        return Settings()
    if not file.is_file():
        raise FileNotFoundError(f"there is no configuration file {file}")
    return Settings(**TomlConfigSettingsSource(Settings, toml_file=file)())
