"""The order of the steps matters: each relies on the ones before it."""
import argparse
import os
import signal
import sys

from runner import engine, limits, sandbox


def main() -> None:
    parser = argparse.ArgumentParser("python -m runner", description="Runs tasks for the process that listens on a socket.")
    parser.add_argument("socket", type=os.path.abspath, help="its folder is the one where scratch folders are")
    parser.add_argument("--sandbox", choices=("off", "auto", "on"), default="off")
    parser.add_argument("--readable", action="append", type=os.path.abspath, default=[], help="a folder that tasks may read")
    parser.add_argument("--staging", action="append", type=os.path.abspath, default=[], help="one that they may read for their code")
    parser.add_argument("--stay", type=int, default=0, metavar="N",
                        help="how many children may wait for further tasks of their strategies, where those keep nothing between runs")
    parser.add_argument("--stay-for", type=float, default=2.0, metavar="SECONDS", help="how long each of them waits")
    options = parser.parse_args()  # the working directory is about to change
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; it is the parent's to act on
    limits.end_with_parent(signal.SIGTERM)  # which the zygote uses to take along what its tasks have started
    engine.settle_environment()
    try:
        box, why_not = sandbox.enter(options.sandbox, os.path.dirname(options.socket), options.readable, options.staging)
    except sandbox.Unavailable as error:
        sys.exit(str(error))
    engine.reserve_memory()
    engine.import_jesse()

    from runner import zygote  # imports Jesse at its top: only now is that safe

    zygote.main(options.socket, box, why_not, zygote.Staying(options.stay, options.stay_for))


if __name__ == "__main__":
    main()
