"""The bundled homeserver and Synapse as processes, with the same certificates, each on SQLite with its defaults."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from benchmarks.processes import Server, free_port, homeserver_settings, of_ours, started
from benchmarks.synapse import synapse_command, synapse_python, write_synapse_settings

OURS, SYNAPSE = "ours", "Synapse"


class Authority:
    """Who vouches for all servers of a benchmark."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("localhost", "127.0.0.1")
        self.ca_file, self.certificate, self.key = folder / "ca.pem", folder / "certificate.pem", folder / "key.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        leaf.private_key_pem.write_to_path(self.key)
        leaf.cert_chain_pems[0].write_to_path(self.certificate)


@dataclass(frozen=True)
class Homeserver:
    """``name`` is localhost and the federation port; ``process.port`` is what clients use."""

    name: str
    process: Server


def competitors() -> list[str]:
    """Ours last, so that its figures can be compared at once; Synapse only where it is installed."""
    return [SYNAPSE, OURS] if synapse_python() else [OURS]


@asynccontextmanager
async def homeserver(software: str, folder: Path, authority: Authority) -> AsyncIterator[Homeserver]:
    """Runs on what is in ``folder``, if anything is; its name stays with the folder."""
    folder.mkdir(exist_ok=True)
    client_port, federation_port = free_port(), remembered_port(folder)
    name = f"localhost:{federation_port}"
    if software == SYNAPSE:
        config = write_synapse_settings(
            folder,
            name=name,
            client_port=client_port,
            federation_port=federation_port,
            certificate=authority.certificate,
            key=authority.key,
            ca_file=authority.ca_file,
            smtp_port=25,
            log_level="CRITICAL",
        )
        python = synapse_python()
        assert python is not None
        command = synapse_command(python, config)
    else:
        config = homeserver_settings(
            folder,
            name=name,
            port=client_port,
            federation_port=federation_port,
            tls_certificate=str(authority.certificate),
            tls_key=str(authority.key),
            ca_file=str(authority.ca_file),
        )
        command = of_ours("homeserver", config)
    async with started(command, client_port, "/_matrix/client/versions") as process:
        yield Homeserver(name, process)


def remembered_port(folder: Path) -> int:
    """The federation port of the server in ``folder``, and so its name, whenever it runs."""
    file = folder / "federation_port"
    if not file.exists():
        file.write_text(str(free_port()))
    return int(file.read_text())
