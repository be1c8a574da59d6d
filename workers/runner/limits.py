"""What the kernel enforces for us: death with the parent, adoption of orphans, and a task's resource limits."""
import ctypes
import os
import resource
import signal
import time
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MB = 1024 * 1024

# Above the task's memory limit, so that a task that has hit it can still say so.
RESERVE_MB = 64
MAX_OPEN_FILES = 256
CPU_GRACE_S = 5
# What the tasks of a process may have left of memory when it takes another.
LEFT_OVER_MB = 128
# More processes than this are not counted one by one: they are too many already.
MAX_WATCHED = 1000

# What the zygote handles; blocked over a fork, because its handlers are not the child's.
HANDLED_SIGNALS = (signal.SIGCHLD, signal.SIGTERM)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Limits:
    cpu_s: int
    memory_mb: int
    file_mb: int
    processes: int

    @classmethod
    def parse(cls, message: object) -> "Limits":
        if not isinstance(message, dict):
            raise ValueError("limits must be an object")
        values = {}
        for name in cls.__dataclass_fields__:
            value = message.get(name)
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise ValueError(f"limits.{name} must be a positive integer")
            values[name] = value
        return cls(**values)


def end_with_parent(number: int) -> None:
    """Get this signal when the thread that created this process ends (the kernel watches the thread, not the process)."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none of them can outlive its task unseen."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)


def unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)


def child_pids() -> list[int]:
    """The children of this thread, which is the only one that forks here. Kernels without CONFIG_PROC_CHILDREN do not say."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
            return [int(child) for child in children.read().split()]
    except FileNotFoundError:
        return []


def apply(limits: Limits, first_of_namespace: bool = False, may_stay: bool = False) -> None:
    """Bound this process. RLIMIT_DATA turns too large an allocation into a MemoryError instead of the kernel's OOM killer.

    The first process of a namespace does not hear SIGXCPU, so for it there is only the hard limit. For one that may do further tasks the
    hard limits leave room for what the tasks before may have used up or left, so that each can have the whole of its own.
    """
    data = status_kb("self", "VmData") * 1024 + limits.memory_mb * _MB
    _lower(resource.RLIMIT_DATA, data, data + (RESERVE_MB + (LEFT_OVER_MB if may_stay else 0)) * _MB)
    _lower(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + (0 if first_of_namespace and not may_stay else CPU_GRACE_S))
    _lower(resource.RLIMIT_FSIZE, limits.file_mb * _MB, limits.file_mb * _MB)
    _lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES, MAX_OPEN_FILES)
    _lower(resource.RLIMIT_CORE, 0, 0)


def renew(limits: Limits) -> None:
    """Give a process that does a further task its time and its memory again."""
    _renew(resource.RLIMIT_CPU, int(time.process_time()) + limits.cpu_s)
    _renew(resource.RLIMIT_DATA, status_kb("self", "VmData") * 1024 + limits.memory_mb * _MB, RESERVE_MB * _MB)


def _renew(kind: int, soft: int, reserve: int = 0) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (min(soft, hard - reserve), hard))


def release_reserve() -> None:
    """Give a task that ran out of memory the room to report it."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _lower(kind: int, soft: int, hard: int) -> None:
    _, inherited = resource.getrlimit(kind)
    if inherited != resource.RLIM_INFINITY:
        hard = min(hard, inherited)
    resource.setrlimit(kind, (min(soft, hard), hard))


@dataclass(frozen=True)
class Usage:
    """What a task and all that it has started take together."""

    pids: list[int]
    threads: int
    memory_kb: int
    cpu_s: float


def usage(pid: int, baseline_kb: int) -> Usage:
    """Of a process and its descendants. Memory is counted above that with which each began, which all of them share."""
    pids, queue, threads, memory_kb, used = [], [pid], 0, 0, 0.0
    while queue:
        current = queue.pop()
        fields = status_fields(current)
        if not fields:
            continue
        pids.append(current)
        threads += fields.get("Threads", 0)
        memory_kb += max(0, fields.get("RssAnon", 0) + fields.get("RssShmem", 0) - baseline_kb)
        if len(pids) <= MAX_WATCHED:
            queue.extend(_children(current))
        used += cpu_s(current)
    return Usage(pids, threads, memory_kb, used)


def _children(pid: int) -> list[int]:
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as children:
                found.extend(int(child) for child in children.read().split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has ended, or the kernel does not say
    return found


def cpu_s(pid: int) -> float:
    """Its own time and that of children that have ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def resident_kb(pid: int | str) -> int:
    """Memory that only this process's end gives back: anonymous and shared-memory pages, but no files (mapped candles).

    RLIMIT_DATA does not see shared mappings; this does.
    """
    return status_kb(pid, "RssAnon", "RssShmem")


def status_kb(pid: int | str, *fields: str) -> int:
    """The sum of some of the kB fields of /proc/PID/status; 0 for a process that has ended."""
    known = status_fields(pid)
    return sum(known.get(field, 0) for field in fields)


def status_fields(pid: int | str) -> dict[str, int]:
    """The memory in kB and the number of threads; nothing for a process that has ended."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as status:
            lines = status.read().decode("ascii", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name in ("VmData", "VmHWM", "RssAnon", "RssShmem", "Threads"):
            fields[name] = int(value.split()[0])
    return fields
