"""The zygote: one single-threaded loop that forks a child per task, watches it, and tells the parent how it ended.

A child whose strategies are known to keep nothing (see `stateless`) stays for a moment, for further tasks of the same code.
"""
import contextlib
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import NoReturn

from runner import child, engine, faster, limits, protocol, warmup
from runner.sandbox import Sandbox

_WATCH_INTERVAL_S = 0.1
_SHUTDOWN_S = 2.0
# The kernel's clock for the limit is coarser than the one that it reports.
_CPU_NEARLY = 0.9
_MOST_KEEPING = 1000


@dataclass
class _Task:
    """`cpu_before` is what its process had used before it, in seconds. One that was handed over has `untaken`, the stayer's key,
    until its process is known to have it."""

    request: child.Request
    pid: int
    baseline_kb: int
    cpu_before: float = 0.0
    untaken: tuple | None = None
    kill_requested: bool = False
    kill_at: float | None = None
    exceeded: str | None = None


@dataclass(frozen=True)
class Staying:
    """How many children that may do further tasks wait for one at once, and for how long: with the memory that they have."""

    most: int
    seconds: float


@dataclass
class _Stayer:
    """A child that may do further tasks of the same code under the same limits (`key`), and for how long it has waited for one."""

    pid: int
    key: tuple
    line: socket.socket
    idle_since: float | None = None


class Zygote:
    def __init__(self, socket_path: str, sandbox: Sandbox | None, staying: Staying) -> None:
        self._socket_path = socket_path
        self._sandbox = sandbox
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.connect(socket_path)
        self._control.setblocking(False)
        self._decoder = protocol.Decoder()
        self._unsent = bytearray()
        self._tasks: dict[int, _Task] = {}
        self._staying = staying
        self._stayers: dict[int, _Stayer] = {}
        self._keeping: dict[str, None] = {}  # bundles whose code need not be looked at again, the oldest first
        self._watch_at = 0.0
        self._signals, wakeup = socket.socketpair()
        self._signals.setblocking(False)
        wakeup.setblocking(False)
        self._wakeup = wakeup
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._control, selectors.EVENT_READ, self._on_control)
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signal)
        self._inherited = [self._control.fileno(), self._signals.fileno(), wakeup.fileno(), self._selector.fileno()]
        if sandbox is not None:
            self._inherited.append(sandbox.pid_namespace)

    def serve(self, ready: dict) -> NoReturn:
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in limits.HANDLED_SIGNALS:
            signal.signal(number, lambda *_: None)  # the byte in the wakeup socket is what counts
        self._send(ready)
        while True:
            for key, events in self._selector.select(self._timeout()):
                key.data(events)
            self._run_timers()

    # Control socket

    def _on_control(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if not events & selectors.EVENT_READ:
            return
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._stop()
        try:
            for kind, payload in self._decoder.feed(data):
                self._handle(kind, payload)
        except protocol.ProtocolError as error:
            print(f"runner: {error}", file=sys.stderr)
            self._stop()

    def _handle(self, kind: bytes, payload: bytes) -> None:
        try:
            message = json.loads(payload) if kind == protocol.JSON else None
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise protocol.ProtocolError("frame without a JSON object")
        if message.get("type") == "fork":
            self._fork(message)
        elif message.get("type") == "kill":
            self._kill(message)
        elif message.get("type") == "ping":
            self._send({"type": "pong", "resident_kb": limits.resident_kb("self")})

    def _send(self, message: dict) -> None:
        self._unsent += protocol.json_frame(message)
        self._flush()

    def _flush(self) -> None:
        """Send what the parent takes now. The rest waits for it, the loop does not."""
        try:
            while self._unsent:
                del self._unsent[: self._control.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._stop()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self._selector.get_key(self._control).events != events:
            self._selector.modify(self._control, events, self._on_control)

    # Tasks

    def _fork(self, message: dict) -> None:
        try:
            request = child.Request.parse(message)
            if any(running.request.id == request.id for running in self._tasks.values()):
                raise ValueError("a task with this id is running")
        except ValueError as error:
            return self._refuse(message.get("id"), str(error))
        key = None
        bundle = request.args.get("bundle")
        if self._staying.most > 0 and request.task in child.STAYING and isinstance(bundle, str) and bundle not in self._keeping:
            key = (bundle, request.limits)
            if self._hand_over(key, request, message):
                return
        self._start(request, key)

    def _start(self, request: child.Request, key: tuple | None) -> None:
        """Forks a child for a task. With a key it may stay."""
        zygote_pid = os.getpid()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if key is not None else (None, None)
        limits.block_signals()
        try:
            pid = os.fork() if self._sandbox is None else self._sandbox.fork()
            if pid == 0:
                lines = [stayer.line.fileno() for stayer in self._stayers.values()] + ([ours.fileno()] if ours is not None else [])
                child.main(request, self._socket_path, zygote_pid, self._inherited + lines, self._sandbox, theirs)
        except OSError as error:
            for end in (ours, theirs):
                if end is not None:
                    end.close()
            return self._refuse(request.id, f"fork: {error}")
        finally:
            limits.unblock_signals()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # as the child does itself, so that the group exists for both from here on
        self._tasks[pid] = _Task(request, pid, limits.resident_kb(pid))
        if key is not None:
            theirs.close()
            ours.setblocking(False)
            self._stayers[pid] = _Stayer(pid, key, ours)
            self._selector.register(ours, selectors.EVENT_READ, lambda _events, pid=pid: self._on_line(pid))

    # Children that stay

    def _hand_over(self, key: tuple, request: child.Request, message: dict) -> bool:
        """Gives a task to a child that waits for one of its kind; whether there was one."""
        payload = json.dumps(message).encode()
        stayer = next((stayer for stayer in self._stayers.values() if stayer.idle_since is not None and stayer.key == key), None)
        if stayer is None or len(payload) > child.LONGEST_REQUEST:
            return False
        log = connection = None
        try:
            log = os.open(f"{request.scratch}/{child.OUTPUT}", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            connection = protocol.Connection(self._socket_path)
            task = _Task(request, stayer.pid, limits.resident_kb(stayer.pid), limits.cpu_s(stayer.pid), untaken=key)
            socket.send_fds(stayer.line, [payload], [connection.fileno(), log])
        except OSError:
            self._dismiss(stayer)
            return False
        finally:
            if log is not None:
                os.close(log)
            if connection is not None:
                connection.drop()
        stayer.idle_since = None
        self._tasks[stayer.pid] = task
        return True

    def _on_line(self, pid: int) -> None:
        stayer = self._stayers.get(pid)
        while stayer is not None:
            try:
                said = stayer.line.recv(64)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            task = self._tasks.get(pid)
            if said == child.TAKEN and task is not None:
                task.untaken = None
            elif said == child.IDLE:
                self._on_idle(stayer, task)
            elif said == child.KEEPING:
                self._keeping[stayer.key[0]] = None
                if len(self._keeping) > _MOST_KEEPING:
                    del self._keeping[next(iter(self._keeping))]
            else:
                return self._let_go(pid)  # it ends, which is heard of elsewhere

    def _on_idle(self, stayer: _Stayer, task: _Task | None) -> None:
        if task is not None:
            if task.kill_requested or task.exceeded is not None:
                return  # it is about to be killed, or was
            del self._tasks[stayer.pid]
            self._send(_stayed(task))
        stayer.idle_since = time.monotonic()
        idle = [stayer for stayer in self._stayers.values() if stayer.idle_since is not None]
        for oldest in sorted(idle, key=lambda stayer: stayer.idle_since)[:max(0, len(idle) - self._staying.most)]:
            self._dismiss(oldest)

    def _dismiss(self, stayer: _Stayer) -> None:
        stayer.idle_since = None
        _kill_group(stayer.pid, signal.SIGKILL)

    def _let_go(self, pid: int) -> None:
        stayer = self._stayers.pop(pid, None)
        if stayer is not None:
            self._selector.unregister(stayer.line)
            stayer.line.close()

    def _refuse(self, task_id: object, reason: str) -> None:
        self._send({"type": "refused", "id": task_id, "message": reason})

    def _kill(self, message: dict) -> None:
        task_id, grace_ms = message.get("id"), message.get("grace_ms")
        grace_s = max(0, grace_ms) / 1000 if isinstance(grace_ms, (int, float)) else 0
        for task in self._tasks.values():
            if task.request.id == task_id:
                task.kill_requested = True
                if self._sandbox is not None:
                    # The first process of a namespace hears no other signal. Nothing that it holds outlives it anyway.
                    return _kill_group(task.pid, signal.SIGKILL)
                kill_at = time.monotonic() + grace_s
                task.kill_at = kill_at if task.kill_at is None else min(task.kill_at, kill_at)
                _kill_group(task.pid, signal.SIGTERM)

    # Timers

    def _timeout(self) -> float | None:
        times = [task.kill_at for task in self._tasks.values() if task.kill_at is not None]
        times += [stayer.idle_since + self._staying.seconds for stayer in self._stayers.values() if stayer.idle_since is not None]
        if self._tasks:
            times.append(self._watch_at)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _run_timers(self) -> None:
        now = time.monotonic()
        for task in self._tasks.values():
            if task.kill_at is not None and task.kill_at <= now:
                task.kill_at = None
                _kill_group(task.pid, signal.SIGKILL)
        for stayer in [*self._stayers.values()]:
            if stayer.idle_since is not None and stayer.idle_since + self._staying.seconds <= now:
                self._dismiss(stayer)
        if now >= self._watch_at:
            self._watch_at = now + _WATCH_INTERVAL_S
            for task in self._tasks.values():
                self._check_usage(task)
            self._kill_orphans()

    def _check_usage(self, task: _Task) -> None:
        """What the kernel bounds for each process, summed over those of the task."""
        usage = limits.usage(task.pid, task.baseline_kb)
        # RLIMIT_DATA and RLIMIT_CPU, which let the task report or end by itself, are to strike first: hence the reserves.
        allowed = task.request.limits
        if usage.threads > allowed.processes:
            task.exceeded = "processes"
        elif usage.memory_kb > (allowed.memory_mb + limits.RESERVE_MB) * 1024:
            task.exceeded = "memory"
        elif usage.cpu_s - task.cpu_before > allowed.cpu_s + limits.CPU_GRACE_S:
            task.exceeded = "cpu"
        else:
            return
        _kill_group(task.pid, signal.SIGKILL)
        for pid in usage.pids:  # those that have left the group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    # Ends

    def _on_signal(self, _events: int) -> None:
        if signal.SIGTERM in self._signals.recv(4096):
            self._stop()
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                # Look without reaping: as long as the leader is a zombie its pid cannot name another group.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                break
            self._on_line(ended.si_pid)  # its last words
            self._let_go(ended.si_pid)
            task = self._tasks.pop(ended.si_pid, None)
            if task is not None:
                _kill_group(ended.si_pid, signal.SIGKILL)
            _, status, usage = os.wait4(ended.si_pid, 0)
            shutil.rmtree(child.home_of(self._socket_path, ended.si_pid), ignore_errors=True)
            if task is not None and task.untaken is not None and not task.kill_requested:
                self._start(task.request, task.untaken)  # it had ended before it had the task
            elif task is not None:
                self._send(_exited(task, status, usage))
        self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Children that nobody forked here are what tasks left behind outside of their group."""
        for pid in limits.child_pids():
            if pid not in self._tasks and pid not in self._stayers:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)  # not reaped yet, so it still names the same process

    def _stop(self) -> NoReturn:
        """Take everything down. Killing a process makes its children ours, so look again until there is none."""
        deadline = time.monotonic() + _SHUTDOWN_S
        for pid in [*self._tasks, *self._stayers]:
            _kill_group(pid, signal.SIGKILL)
        self._tasks.clear()
        self._stayers.clear()
        try:
            while time.monotonic() < deadline:
                self._kill_orphans()
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.002)
        except ChildProcessError:
            pass
        os._exit(0)


def _exited(task: _Task, status: int, usage: resource.struct_rusage) -> dict:
    killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    cpu_s = usage.ru_utime + usage.ru_stime - task.cpu_before
    cause = None
    if killed_by == signal.SIGKILL and task.exceeded is not None:
        cause = task.exceeded
    elif killed_by is not None and task.kill_requested:
        cause = "killed"
    elif killed_by == signal.SIGXCPU or (killed_by == signal.SIGKILL and cpu_s >= _CPU_NEARLY * task.request.limits.cpu_s):
        cause = "cpu"
    return {
        "type": "exited",
        "id": task.request.id,
        "status": os.WEXITSTATUS(status) if killed_by is None else None,
        "signal": killed_by,
        "cause": cause,
        "max_rss_kb": usage.ru_maxrss,
        "cpu_s": cpu_s,
    }


def _stayed(task: _Task) -> dict:
    """The end of a task whose process goes on."""
    return {"type": "exited", "id": task.request.id, "status": 0, "signal": None, "cause": None,
            "max_rss_kb": limits.status_kb(task.pid, "VmHWM"), "cpu_s": max(0.0, limits.cpu_s(task.pid) - task.cpu_before)}


def _kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def main(socket_path: str, sandbox: Sandbox | None, why_not: str, staying: Staying) -> NoReturn:
    limits.adopt_orphans()
    installed = faster.install()
    warmup.run()
    ready = {**engine.describe(), "faster": installed, "sandbox": {"active": sandbox is not None, "reason": why_not}}
    zygote = Zygote(socket_path, sandbox, staying)
    child.note_own_modules()
    engine.freeze()
    zygote.serve(ready)
