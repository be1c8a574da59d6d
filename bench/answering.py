"""Processes that answer requests of one line with one line of JSON, and the Python that has the libraries which `crates/risk` is set
beside."""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# The versions that the golden numbers were computed with.
REQUIREMENTS = os.path.join(HERE, "..", "crates", "risk", "tests", "golden", "requirements.txt")


class Answering:
    """A process that answers."""

    def __init__(self, stack, *command):
        one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **one})
        stack.callback(self.process.wait, 60)
        stack.callback(self.process.stdin.close)

    def send(self, ask, **what):
        self.process.stdin.write(json.dumps({"ask": ask, **what}) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[0]} ended without an answer")
        return json.loads(line)

    def ask(self, ask, **what):
        self.send(ask, **what)
        return self.receive()


def libraries(binary):
    """A Python with the libraries, made once beside the folder of the binary."""
    home = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(binary))), "risk-peers")
    python, made_for = os.path.join(home, "bin", "python"), os.path.join(home, "made-for")
    with open(REQUIREMENTS) as file:
        wanted = file.read()
    if not os.path.exists(made_for) or open(made_for).read() != wanted:
        print("getting the libraries to compare with (once)", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)
        with open(made_for, "w") as file:
            file.write(wanted)
    return python


def peers(stack, python):
    """numpy and arch, answering what `risk-bench` does."""
    return Answering(stack, python, os.path.join(HERE, "risk_peers.py"))


def machine():
    """The processor and the system, for the line above a table."""
    import platform

    with open("/proc/cpuinfo") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}"
