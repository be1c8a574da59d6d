"""`jesse-jobs up` on a folder of its own, as benchmarks begin with it."""
import os
import subprocess
import sys

EXCHANGE, SYMBOL = "Binance Perpetual Futures", "BTC-USDT"
PROJECT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "demo", "project"))


def environment():
    """Ours, without a Redis of somebody else's, and with the Python that runs the benchmark."""
    found = dict(os.environ, JESSE_PYTHON=sys.executable, LOG_LEVEL="error")
    found.pop("REDIS_URL", None)
    return found


def generate(binary, data, days=400, symbol=SYMBOL, seed=1):
    """Synthetic candles."""
    subprocess.run([binary, "candles", "generate", "--data", data, "--exchange", EXCHANGE, "--symbol", symbol, "--days", str(days),
                    "--seed", str(seed)], check=True, stdout=subprocess.DEVNULL, env=environment())


def up(binary, data, *arguments):
    """The process, and the address (host:port) at which it is ready."""
    command = [binary, "up", "--listen", "127.0.0.1:0", "--data", data, "--project", PROJECT, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    return process, process.stdout.readline().strip().removeprefix("jesse-jobs is ready: http://")


def descendants(pid, name=""):
    """The processes that come from this one, however far, by their ids: the sandbox has one between the worker and the Python that
    keeps Jesse. With a name, those whose programs are named so."""
    children = subprocess.run(["pgrep", "-P", str(pid), name], capture_output=True, text=True).stdout.split()
    return [found for child in children for found in (int(child), *descendants(child, name))]
