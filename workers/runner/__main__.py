"""`python -m runner SOCKET_PATH`. The order of the steps matters: each relies on the ones before it."""
import sys

from runner import engine, limits


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m runner SOCKET_PATH")
    limits.die_with_parent()
    engine.settle_environment()
    engine.import_jesse()

    from runner import zygote  # imports Jesse at its top: only now is that safe

    zygote.main(sys.argv[1])


if __name__ == "__main__":
    main()
