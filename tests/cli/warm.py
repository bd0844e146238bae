"""Processes of `identity-server` that start warm: each is forked from one that has imported the libraries already.

A command costs a second of processor time before it begins, nearly all of it imports, and the tests here run hundreds.
What is started (``warm_command``) is a process with an environment, streams and an exit code of its own as ever; only
signals do not reach the command behind it.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
# All but `identity_server.cli` itself: its consoles look at the environment when they are made.
PRELOADED = (
    "identity_server.identity.application",
    "identity_server.demo.serving",
    "rich.console",
    "rich.table",
    "typer",
)


@contextmanager
def warm_command() -> Iterator[tuple[str, ...]]:
    """What to start in place of ``python -W error -m identity_server.cli``."""
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        path = f"{folder}/socket"
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-W", "ignore:'imghdr' is deprecated", "-m", "tests.cli.warm", path],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield sys.executable, "-I", "-S", str(Path(__file__).with_name("warm_start.py")), path
        finally:
            process.kill()
            process.communicate()


def _serve(path: str) -> None:
    for module in PRELOADED:
        import_module(module)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(100)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    listener.close()
                    _become(connection)


def _become(connection: socket.socket) -> None:
    """The command that is asked for; whoever asked for it is told its exit code."""
    asked, streams, _, _ = socket.recv_fds(connection, 65_536, 3)
    while not asked.endswith(b"\n"):
        asked += connection.recv(65_536)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    arguments, environment = json.loads(asked)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["identity-server", *arguments]
    code = _run()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(str(code).encode())
    os._exit(code)


def _run() -> int:
    try:
        import_module("identity_server.cli.main").main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1])
