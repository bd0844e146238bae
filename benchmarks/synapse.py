"""Synapse, from a virtual environment of its own: its settings, and the command that runs it.

It is installed by ``python -m venv tests/interop/.synapse`` and ``tests/interop/.synapse/bin/pip install
matrix-synapse``; another environment's Python is named by ``SYNAPSE_PYTHON``. Nothing of it is imported here.
"""

import json
import os
from pathlib import Path
from typing import Any

from signedjson.key import generate_signing_key, write_signing_keys

from identity_server.demo.serving import HOST

_OWN = Path(__file__).parents[1] / "tests" / "interop" / ".synapse" / "bin" / "python"


def synapse_python() -> Path | None:
    """The interpreter that has Synapse, or None."""
    python = Path(os.environ.get("SYNAPSE_PYTHON") or _OWN)
    return python if python.is_file() else None


def synapse_command(python: Path, config: Path) -> list[str | Path]:
    return [python, "-m", "synapse.app.homeserver", "--config-path", config]


def write_synapse_settings(
    folder: Path,
    *,
    name: str,
    client_port: int,
    federation_port: int,
    certificate: Path,
    key: Path,
    ca_file: Path,
    smtp_port: int,
    log_level: str = "WARNING",
    **more: Any,
) -> Path:
    """The file of settings of a Synapse on loopback that keeps everything in ``folder``. YAML, as JSON is."""
    limit = {"per_second": 100_000, "burst_count": 100_000}
    media, log_config = folder / "media", folder / "log.yaml"
    log_config.write_text(
        json.dumps(
            {
                "version": 1,
                "handlers": {"console": {"class": "logging.StreamHandler"}},
                "root": {"level": log_level, "handlers": ["console"]},
                "disable_existing_loggers": False,
            }
        )
    )
    settings = {
        "server_name": name,
        "public_baseurl": f"http://{HOST}:{client_port}/",
        "report_stats": False,
        "pid_file": str(folder / "synapse.pid"),
        "signing_key_path": str(folder / "signing.key"),
        "log_config": str(log_config),
        "media_store_path": str(media),
        "database": {"name": "sqlite3", "args": {"database": str(folder / "synapse.db")}},
        "tls_certificate_path": str(certificate),
        "tls_private_key_path": str(key),
        "listeners": [
            {
                "port": client_port,
                "bind_addresses": [HOST],
                "type": "http",
                "resources": [{"names": ["client", "media"]}],
            },
            {
                "port": federation_port,
                "bind_addresses": [HOST],
                "type": "http",
                "tls": True,
                "resources": [{"names": ["federation", "keys", "openid", "media"]}],
            },
        ],
        "federation_custom_ca_list": [str(ca_file)],
        "ip_range_blacklist": [],
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        # A peer that was down is tried again at once.
        "federation": {
            "client_timeout": "20s",
            "max_short_retries": 1,
            "max_short_retry_delay": 500,
            "max_long_retries": 1,
            "max_long_retry_delay": "1s",
            "destination_min_retry_interval": 500,
            "destination_retry_multiplier": 1,
            "destination_max_retry_interval": "1s",
        },
        "enable_registration": True,
        "enable_registration_without_verification": True,
        "macaroon_secret_key": "of no consequence",
        "form_secret": "of no consequence",
        "bcrypt_rounds": 4,
        "allow_public_rooms_over_federation": True,
        "allow_public_rooms_without_auth": True,
        "room_list_publication_rules": [{"action": "allow"}],
        "user_directory": {"enabled": True, "search_all_users": True},
        "email": {
            "smtp_host": HOST,
            "smtp_port": smtp_port,
            "enable_tls": False,
            "notif_from": "Synapse <noreply@synapse.test>",
        },
        "rc_message": limit,
        "rc_registration": limit,
        "rc_registration_token_validity": limit,
        "rc_login": {"address": limit, "account": limit, "failed_attempts": limit},
        "rc_admin_redaction": limit,
        "rc_joins": {"local": limit, "remote": limit},
        "rc_joins_per_room": limit,
        "rc_invites": {"per_room": limit, "per_user": limit, "per_issuer": limit},
        "rc_3pid_validation": limit,
        "rc_third_party_invite": limit,
        "rc_media_create": limit,
        "rc_presence": {"per_user": limit},
        "rc_room_creation": limit,
        "rc_reports": limit,
        "rc_user_directory": limit,
        "rc_key_requests": limit,
        "rc_federation": {
            "window_size": 1000,
            "sleep_limit": 10_000,
            "sleep_delay": 1,
            "reject_limit": 10_000,
            "concurrent": 100,
        },
        "rc_delayed_event_mgmt": limit,
        **more,
    }
    with (folder / "signing.key").open("w") as file:
        write_signing_keys(file, [generate_signing_key("a_test")])
    config = folder / "homeserver.yaml"
    config.write_text(json.dumps(settings, indent=1))
    return config
