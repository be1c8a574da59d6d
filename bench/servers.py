"""Where servers of the benchmarks' own listen, and which Redis they are."""
import shutil
import socket
import sys


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def redis_program():
    """The one that is found first in PATH."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        sys.exit("neither redis-server nor valkey-server is installed: make setup")
    return program
