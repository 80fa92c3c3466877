"""A port of this machine."""

import socket


def free_port():
    """Return the number of a TCP port on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
