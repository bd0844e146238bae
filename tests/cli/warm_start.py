"""Has a warm process do what the command line says (see ``warm.py``); imports as little as can be."""

import json
import os
import socket
import sys

connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
asked = json.dumps([sys.argv[2:], dict(os.environ)]).encode() + b"\n"
socket.send_fds(connection, [asked], [0, 1, 2])
# The streams are the command's alone: their ends are to be seen when it ends.
sys.exit(int(connection.recv(8) or b"1"))
