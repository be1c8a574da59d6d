"""`python -m runner SOCKET_PATH`. The order of the steps matters: each relies on the ones before it."""
import os
import signal
import sys

from runner import engine, limits


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m runner SOCKET_PATH")
    socket_path = os.path.abspath(sys.argv[1])  # the working directory is about to change
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; it is the parent's to act on
    limits.end_with_parent(signal.SIGTERM)  # which the zygote uses to take along what its tasks have started
    engine.settle_environment()
    engine.import_jesse()

    from runner import zygote  # imports Jesse at its top: only now is that safe

    zygote.main(socket_path)


if __name__ == "__main__":
    main()
