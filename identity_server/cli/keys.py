"""`identity-server keys`."""

from pathlib import Path
from typing import Annotated

import typer

from identity_server.cli.context import console, fail, settings_of
from identity_server.matrix.signing import SigningKey
from identity_server.runtime.key_files import BadKeyFile, generate_key, read_keys, write_keys
from identity_server.runtime.tokens import SystemEntropy

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The long-term keys that sign associations.")


@app.command("list")
def list_keys(context: typer.Context) -> None:
    """Show the public keys, oldest first; the last one signs."""
    keys = _read(_file(context))
    for key in keys:
        _show(key, "signs" if key is keys[-1] else "verifies what it signed")


@app.command("generate")
def generate(context: typer.Context) -> None:
    """Add a new key, which signs from the next start on; the older ones go on being published."""
    try:
        key = generate_key(_file(context), SystemEntropy())
    except (OSError, BadKeyFile) as error:
        fail(str(error))
    _show(key)


@app.command("remove")
def remove(context: typer.Context, key_id: Annotated[str, typer.Argument(help="Such as ed25519:0.")]) -> None:
    """Forget a key that has become known to others: what it signed is then no longer verifiable."""
    file = _file(context)
    keys = _read(file)
    kept = tuple(key for key in keys if key.key_id != key_id)
    if len(kept) == len(keys):
        fail(f"there is no key {key_id}")
    if not kept:
        fail("this is the only key: generate another first")
    write_keys(file, kept)


def _show(key: SigningKey, *remarks: str) -> None:
    # One line however narrow the terminal: keys are copied, and searched for by other commands.
    console.print(key.key_id, key.verify_key.base64, *remarks, highlight=False, soft_wrap=True)


def _file(context: typer.Context) -> Path:
    return settings_of(context).signing_key_file


def _read(file: Path) -> tuple[SigningKey, ...]:
    try:
        return read_keys(file)
    except (OSError, BadKeyFile) as error:
        fail(str(error))
