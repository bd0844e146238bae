"""Servers as processes: started, waited for until they answer, ended."""

import os
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

_START_SECONDS = 60
_STOP_SECONDS = 15

Process = subprocess.Popen[bytes]


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    answers: str,
    environment: Mapping[str, str] | None = None,
    trust: ssl.SSLContext | None = None,
) -> Iterator[Process]:
    """``command`` runs until the block ends, and has answered a GET of ``answers`` when it begins."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Settings from the environment would win over the file.
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("IDENTITY_SERVER_")},
                **(environment or {}),
            },
        )
        try:
            _until_it_answers(answers, process, log, trust)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_it_answers(url: str, process: Process, log: Path, trust: ssl.SSLContext | None) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=5, context=trust):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"the process did not come up:\n{log.read_text()}")
