"""What happens in a forked child, from its first instruction to its last."""
import contextlib
import gc
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from typing import Callable, NoReturn

import numpy as np

from runner import backtest, limits, significance, stateless, strategies, validate
from runner.failures import to_task_error
from runner.protocol import Connection, TaskError
from runner.sandbox import Sandbox

TASKS = {
    "backtest": backtest.run,
    "significance_test": significance.run,
    "scan": strategies.scan,
    "describe": strategies.describe,
    "validate": validate.run,
}

_RUNNING_NO_CODE = {"scan"}
# Those for which a process may stay.
STAYING = {"backtest"}
LONGEST_REQUEST = 1 << 16
# What it says to the zygote: that it waits for a task, that it has one, and that its code may keep something wherever it runs.
IDLE, TAKEN, KEEPING = b"idle", b"taken", b"keeping"
OUTPUT = "output.log"
_OUTPUT_HEAD, _OUTPUT_TAIL = 16 * 1024, 48 * 1024
# In the sandbox, where they are in memory, all files of a task together may take as much as this many of the largest.
_FILES_OF_ALL = 2
_PACKAGE = __name__.partition(".")[0]
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The parent's id for the first process of a namespace, which cannot outlive the parent's own namespace.
_OUTSIDE = 0
# Jesse writes to ./storage, which must be the task's own.
_NOT_COPIED = {"storage", "__pycache__", OUTPUT}
_own_modules: list[str] = []


@dataclass(frozen=True)
class Request:
    """A validated `fork` message."""

    id: str
    task: str
    scratch: str
    limits: limits.Limits
    args: dict

    @classmethod
    def parse(cls, message: dict) -> "Request":
        task_id, task, scratch, args = (message.get(name) for name in ("id", "task", "scratch", "args"))
        if not isinstance(task_id, str) or not task_id:
            raise ValueError("id must be a string")
        if task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}")
        if not isinstance(scratch, str) or not os.path.isabs(scratch):
            raise ValueError("scratch must be an absolute path")
        if not isinstance(args, dict):
            raise ValueError("args must be an object")
        return cls(task_id, task, scratch, limits.Limits.parse(message.get("limits")), args)


class Session:
    """A running task's line to the parent. `phase` says how far it got, for the blame when it fails."""

    def __init__(self, connection: Connection, watches: bool = False) -> None:
        """`watches` whether the strategies keep anything."""
        self._connection = connection
        self._log = -1
        self.watches = watches
        # What the strategies held right after their import; none if they may keep something elsewhere.
        self.memory: stateless.Memory | None = None
        self.phase = "prepare"

    def log_to(self, descriptor: int) -> None:
        """Where the task prints to. Not a path: that of a task in the sandbox is out of its sight."""
        self._log = descriptor

    def imported(self) -> None:
        """The strategies have been imported, and nothing of them has run yet."""
        if self.watches:
            with contextlib.suppress(stateless.KeepsState):
                self.memory = stateless.Memory(os.getcwd())

    def progress(self, fraction: float, message: str) -> None:
        self._connection.send({"type": "progress", "fraction": fraction, "message": message})

    def greet(self, request: Request) -> None:
        self.send({"type": "hello", "id": request.id, "pid": os.getpid()})

    def send(self, message: dict, body: bytes | None = None) -> None:
        self._connection.send(message, body)

    def close(self) -> None:
        _flush_output()
        self._connection.close()
        if self._log >= 0:
            os.close(self._log)

    def output(self) -> str:
        """What the task has printed: all of it, or its begin and its end."""
        _flush_output()
        size = os.fstat(self._log).st_size
        head = os.pread(self._log, _OUTPUT_HEAD, 0)
        cut = max(0, size - _OUTPUT_HEAD - _OUTPUT_TAIL)
        tail = os.pread(self._log, _OUTPUT_TAIL, len(head) + cut)
        note = f"\n[... {cut} bytes are left out here ...]\n".encode() if cut else b""
        return (head + note + tail).decode("utf-8", errors="replace")


def note_own_modules() -> None:
    """To be called before the first fork. A child that went through all loaded modules would write to the reference count of each
    name, and so copy the pages of all: 5 ms of every task."""
    _own_modules[:] = [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]
    stateless.note_modules(set(sys.modules).difference(_own_modules))


def main(request: Request, socket_path: str, zygote_pid: int, inherited: list[int], sandbox: Sandbox | None,
         line: socket.socket | None) -> NoReturn:
    """Never returns, and never runs what the zygote would run when it ends: the stack above this call is not the child's.

    Over `line`, if there is one, the zygote hands over further tasks, as long as nothing tells them from a process's first.
    """
    status = 1
    try:
        _detach(zygote_pid, inherited)
        home = request.scratch
        if sandbox is not None:
            home = sandbox.folder
        elif line is not None:
            home = home_of(socket_path, os.getpid())
        before_kb = limits.resident_kb("self")
        session = Session(Connection(socket_path), watches=line is not None)
        session.greet(request)
        fine = _report(session, request, lambda: _first(request, session, sandbox, home), home)
        session.close()
        memory = session.memory
        if line is not None and fine and memory is None:
            line.send(KEEPING)
        while line is not None and fine and memory is not None and _may_stay(before_kb) and memory.is_unchanged():
            following = _following(line)
            if following is None:
                break
            request, session = following
            fine = _report(session, request, lambda: _further(request), home)
            session.close()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def home_of(socket_path: str, pid: int) -> str:
    """The folder of a child that may stay, where there is no sandbox: its first task's is gone when that is done."""
    return f"{os.path.dirname(socket_path)}/home-{pid}"


def _may_stay(before_kb: int) -> bool:
    """Whether the next task would have the processor time and the memory that a process's first has."""
    return time.process_time() <= limits.CPU_GRACE_S and limits.resident_kb("self") - before_kb <= limits.LEFT_OVER_MB * 1024


def _following(line: socket.socket) -> tuple[Request, Session] | None:
    """The next task, which is of the same code and has the same limits; none when the zygote has no more."""
    line.send(IDLE)
    gc.collect()
    message, descriptors, _, _ = socket.recv_fds(line, LONGEST_REQUEST, 2)
    if not message:
        return None
    line.send(TAKEN)
    connection, log = descriptors
    for target in (1, 2):
        os.dup2(log, target)
    request, session = Request.parse(json.loads(message)), Session(Connection.of(connection))
    session.log_to(log)
    session.greet(request)
    return request, session


def _report(session: Session, request: Request, prepare: Callable[[], None], home: str) -> bool:
    """Does a task and tells how it went; whether well."""
    try:
        prepare()
        value, body = TASKS[request.task](request.args, session)
        result = {"type": "result", "value": value}
        if body is not None:
            result["body"] = True
        session.send(result, body)
        return True
    except BaseException as error:  # SystemExit too: it is the strategy's, not ours
        if isinstance(error, MemoryError):
            limits.release_reserve()
        failure = to_task_error(error, os.path.realpath(home), session.phase)
        session.send({"type": "error", "code": failure.code, "message": failure.message, "detail": failure.detail})
        return False


def _detach(zygote_pid: int, inherited: list[int]) -> None:
    """Undo what the zygote set up for itself. Signals were blocked over the fork, so none has run the zygote's handlers here."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    limits.end_with_parent(signal.SIGKILL)
    if os.getppid() not in (zygote_pid, _OUTSIDE):
        os._exit(1)  # it died before it could take this child along
    os.setpgid(0, 0)
    limits.unblock_signals()
    for descriptor in inherited:
        os.close(descriptor)


def _first(request: Request, session: Session, sandbox: Sandbox | None, home: str) -> None:
    """What a process's first task needs done before."""
    try:
        os.chdir(request.scratch)
        session.log_to(_redirect_output())
        if sandbox is None:
            os.makedirs(home, exist_ok=True)
            os.chdir(home)
    except OSError as error:
        raise TaskError("internal_error", f"scratch directory is not usable: {error}") from error
    shut_off = sandbox is not None and request.task not in _RUNNING_NO_CODE
    if shut_off:
        _set_up(lambda: sandbox.enclose(_FILES_OF_ALL * request.limits.file_mb))
    bundle = request.args.get("bundle")
    if bundle is not None:
        _copy(bundle)
    if shut_off:
        _set_up(sandbox.confine)
    os.environ["TMPDIR"] = os.getcwd()
    tempfile.tempdir = None
    if bundle is not None:
        sys.dont_write_bytecode = True
        sys.path.insert(0, os.getcwd())
    _hide_runner()
    _seed(request)
    limits.apply(request.limits, sandbox is not None, session.watches)
    gc.enable()


def _further(request: Request) -> None:
    with warnings.catch_warnings():
        pass  # forgets which warnings were printed already: each run prints its own
    _seed(request)
    limits.renew(request.limits)


def _seed(request: Request) -> None:
    seed = int(request.args.get("seed") or 0) % 2**32
    random.seed(seed)
    np.random.seed(seed)


def _redirect_output() -> int:
    """The file that is written to from here on, open to be read."""
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(OUTPUT, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    return log


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # the log is full, or the strategy has closed or replaced the stream


def _set_up(step: Callable[[], None]) -> None:
    try:
        step()
    except OSError as error:
        raise TaskError("internal_error", f"the sandbox cannot be set up: {error}") from error


def _copy(bundle: object) -> None:
    """Make a bundle's files reachable by the relative paths that a strategy uses in its own project.

    A copy, since the bundle is immutable and shared: what a strategy writes beside its code must not reach other tasks.
    """
    if not isinstance(bundle, str) or not os.path.isabs(bundle):
        raise TaskError("invalid_spec", "bundle must be an absolute path")
    try:
        shutil.copytree(bundle, ".", dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_NOT_COPIED), copy_function=shutil.copyfile)
    except (OSError, shutil.Error) as error:
        raise TaskError("invalid_spec", f"bundle cannot be read: {error}") from error


def _hide_runner() -> None:
    """A project may have a module with the name of this package, and must get its own."""
    sys.path[:] = [entry for entry in sys.path if entry != _PACKAGE_PARENT]
    for name in _own_modules:
        del sys.modules[name]
