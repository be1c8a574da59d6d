"""What chaos.py plays on: a folder of its own, the processes that run in it, and the list of what did not hold."""
import json
import random
import subprocess
import time
from dataclasses import dataclass, field
from typing import TextIO

# In seconds: within this time all jobs have ended, and what is asked about them is answered.
ENDED = 300


def say(text):
    print(text, flush=True)


def until(what, limit, text, pause=0.05):
    """Waits until it is so; answers seconds."""
    begin = time.monotonic()
    while not what():
        if time.monotonic() - begin > limit:
            raise TimeoutError(f"not within {limit} s: {text}")
        time.sleep(pause)
    return time.monotonic() - begin


def kill(process):
    if process.poll() is None:
        process.kill()
    process.wait()


@dataclass
class Stage:
    """What all scenarios share."""

    binary: str
    folder: str
    # Whatever the processes print as errors.
    log: TextIO
    # All that is left to chance here, so that a seed repeats it.
    chance: random.Random
    processes: list[subprocess.Popen] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def bar(self, holds, text):
        """What must hold; all of it is looked at before the test ends."""
        if not holds:
            self.missed.append(text)
            say(f"MISSED: {text}")

    def spawn(self, *command, output=subprocess.DEVNULL, environment=None):
        process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=self.log, cwd=self.folder,
                                   env=environment, text=True)
        self.processes.append(process)
        return process

    def ours(self, subcommand, *options, limit=ENDED):
        process = self.spawn(self.binary, subcommand, *options, output=subprocess.PIPE)
        printed, _ = process.communicate(timeout=limit)
        if process.returncode:
            raise RuntimeError(f"{subcommand} ended with {process.returncode}")
        return json.loads(printed)
