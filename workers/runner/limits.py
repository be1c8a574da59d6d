"""What the kernel enforces for us: death with the parent, adoption of orphans, and a task's resource limits."""
import ctypes
import os
import resource
import signal
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MB = 1024 * 1024

# Above the task's memory limit, so that a task that has hit it can still say so.
RESERVE_MB = 64
MAX_OPEN_FILES = 256
CPU_GRACE_S = 5

# What the zygote handles; blocked over a fork, because its handlers are not the child's.
HANDLED_SIGNALS = (signal.SIGCHLD, signal.SIGTERM)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Limits:
    cpu_s: int
    memory_mb: int
    file_mb: int

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


def apply(limits: Limits) -> None:
    """Bound this process. RLIMIT_DATA turns too large an allocation into a MemoryError instead of the kernel's OOM killer."""
    data = status_kb("self", "VmData") * 1024 + limits.memory_mb * _MB
    _lower(resource.RLIMIT_DATA, data, data + RESERVE_MB * _MB)
    _lower(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + CPU_GRACE_S)
    _lower(resource.RLIMIT_FSIZE, limits.file_mb * _MB, limits.file_mb * _MB)
    _lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES, MAX_OPEN_FILES)
    _lower(resource.RLIMIT_CORE, 0, 0)


def release_reserve() -> None:
    """Give a task that ran out of memory the room to report it."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _lower(kind: int, soft: int, hard: int) -> None:
    _, inherited = resource.getrlimit(kind)
    if inherited != resource.RLIM_INFINITY:
        hard = min(hard, inherited)
    resource.setrlimit(kind, (min(soft, hard), hard))


def resident_kb(pid: int) -> int:
    """Memory that only this process's end gives back: anonymous and shared-memory pages, but no files (mapped candles).

    RLIMIT_DATA does not see shared mappings; this does.
    """
    return status_kb(pid, "RssAnon", "RssShmem")


def status_kb(pid: int | str, *fields: str) -> int:
    """The sum of some of the kB fields of /proc/PID/status; 0 for a process that has ended."""
    total = 0
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as status:
            lines = status.read().decode("ascii", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in lines:
        name, _, value = line.partition(":")
        if name in fields:
            total += int(value.split()[0])
    return total
