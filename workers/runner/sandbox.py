"""Shuts tasks off from the machine: no network, no files but those they need, no other processes, no privileges.

Done in two steps, so that a task pays for the second alone:

* `enter`, once and before Jesse is imported: namespaces of users, mounts, networks, processes, IPC and host name, and a root
  that holds nothing but the interpreter, the system's libraries and the folders that are named, all of it read-only. The process
  that was started stays outside, waits, and passes on how the inner one ended.
* `enclose` and `confine`, in each child: its own process and mount namespaces, in which only a file system of its own can be written,
  which is in memory and ends with it, and neither the code of others nor the runner's socket can be seen; then every capability is
  dropped, for good.

What it does not do is told in workers/README.md. Where the kernel forbids any of it, all of it is left out, and said.
"""
import ctypes
import errno
import os
import signal
import struct
import sys
from dataclasses import dataclass
from typing import Callable, Iterable, NoReturn

from runner import limits

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x1000_0000, 0x2000_0000, 0x4000_0000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x4_0000
_PROC_FLAGS = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID = 1, 2
_SYS_MOUNT_SETATTR = 442  # the same on all processors, as all numbers are that are younger than 2019
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_CAPABILITY_VERSION = 0x2008_0522
_LAST_CAPABILITY = 63
# How many files and folders a task may have.
_FILES = 16_384

# What programs need of a system: libraries, and how names, times and types are looked up.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store", "/etc/ld.so.cache",
           "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/nsswitch.conf", "/etc/mime.types",
           "/etc/ssl/certs", "/etc/fonts", "/sys/devices/system/cpu", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """The sandbox is asked for and cannot be had."""


@dataclass(frozen=True)
class Sandbox:
    """`staging` are folders from which a task takes its code; once it has it, it does not see them any more."""

    folder: str
    staging: tuple[str, ...]
    pid_namespace: int

    def fork(self) -> int:
        """os.fork(), with the child as the first process of a namespace: whatever it starts ends with it."""
        _unshare(_CLONE_NEWPID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                _check(_libc.setns(self.pid_namespace, _CLONE_NEWPID), "setns")
        return pid

    def enclose(self, files_mb: int) -> None:
        """Makes `folder` the only place to write to, an empty one, and the working directory. In memory: making files and
        removing them takes a disk more time than all else here. Of the rest nothing is taken away yet."""
        _unshare(_CLONE_NEWNS)
        _mount("task", self.folder, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={files_mb}m,nr_inodes={_FILES},mode=700")
        os.chdir(self.folder)

    def confine(self) -> None:
        """Takes the rest away, once the task has its code."""
        for hidden in self.staging:
            _mount("/tmp", hidden, None, _MS_BIND)  # an empty folder
        # Read-only: it has switches of the whole machine, which root may set without any capability.
        _mount("proc", "/proc", "proc", _MS_RDONLY | _PROC_FLAGS)
        _drop_privileges()


def enter(mode: str, folder: str, readable: Iterable[str], staging: Iterable[str]) -> tuple[Sandbox | None, str]:
    """The sandbox, in a process of its own, or None with why there is none. Raises Unavailable if there must be one.

    `folder` holds the runner's socket and the scratch folders. Only its contents can be written to.
    """
    if mode == "off":
        return None, "it is switched off"
    staging = tuple(staging)
    paths = [*_SYSTEM, *_python_paths(), *readable, *staging]
    problem = _try_in_a_child(lambda: _isolate(folder, paths, staging))
    if problem is None:
        return _isolate(folder, paths, staging), ""
    if mode == "on":
        raise Unavailable(f"the sandbox cannot be set up: {problem}")
    return None, problem


def _isolate(folder: str, paths: Iterable[str], staging: tuple[str, ...]) -> Sandbox:
    """Returns in a new process. The one that calls it waits for that one, and ends as it ended."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWPID | _CLONE_NEWIPC | _CLONE_NEWUTS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    inner = os.fork()
    if inner != 0:
        _wait_for(inner)
    limits.end_with_parent(signal.SIGKILL)
    with open("/proc/sys/user/max_user_namespaces", "w", encoding="ascii") as file:
        file.write("0")  # a namespace of a task's own would give it back what it is denied
    _change_root(folder, paths)
    os.environ.update(TMPDIR=folder, MPLCONFIGDIR=folder)
    return Sandbox(folder, staging, os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC))


def _change_root(folder: str, paths: Iterable[str]) -> None:
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    root = f"{folder}/root"
    os.makedirs(root, exist_ok=True)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    bound: list[str] = []
    for path in sorted({form for path in paths for form in (os.path.abspath(path), os.path.realpath(path))}):
        if path == "/" or not os.path.exists(path) or any(path.startswith(f"{other}/") for other in bound):
            continue
        _make_target(path, root + path)
        _mount(path, root + path, None, _MS_BIND | _MS_REC)
        bound.append(path)
    for path in ("/proc", "/tmp", folder):
        os.makedirs(root + path, exist_ok=True)
    attributes = struct.pack("QQQQ", _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID, 0, 0, 0)
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, root.encode(), _AT_RECURSIVE, attributes, len(attributes)), "mount_setattr")
    _mount(folder, root + folder, None, _MS_BIND)
    _mount("proc", f"{root}/proc", "proc", _PROC_FLAGS)
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"pivot_root on {os.uname().machine}")
    os.chdir(root)
    _check(_libc.syscall(number, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount")
    os.chdir("/")


def _make_target(source: str, target: str) -> None:
    """A mount point of the same kind."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="ascii"):
            pass


def _python_paths() -> list[str]:
    """Where this interpreter and its packages are. Not the first entry of the search path: that is where we were started."""
    prefixes = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, os.path.dirname(sys.executable)]
    return [*prefixes, *(entry for entry in sys.path[1:] if os.path.isabs(entry))]


def _drop_privileges() -> None:
    """All capabilities, also as far as a program could get them back, and all that a set-user-id program would give."""
    for capability in range(_LAST_CAPABILITY + 1):
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) != 0:
            break  # the kernel knows no more
    _check(_libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0), "clear ambient capabilities")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "no_new_privs")
    _check(_libc.capset(struct.pack("Ii", _CAPABILITY_VERSION, 0), bytes(24)), "capset")


def _try_in_a_child(attempt: Callable[[], Sandbox]) -> str | None:
    """Why it fails, if it does; it may change the process that it runs in."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            sandbox = attempt()
            sandbox.enclose(files_mb=1)  # what each task does has to work as well
            sandbox.confine()
            os.write(write, b"+")
        except BaseException as error:
            os.write(write, f"-{error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        answer = answers.read().decode(errors="replace")
    os.waitpid(pid, 0)
    return None if answer == "+" else answer.removeprefix("-") or "the attempt ended without a word"


def _wait_for(inner: int) -> NoReturn:
    signal.signal(signal.SIGTERM, lambda *_: os.kill(inner, signal.SIGTERM))
    _, status = os.waitpid(inner, 0)
    if os.WIFSIGNALED(status):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1)


def _unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [text.encode() if text is not None else None for text in (source, target, kind, options)]
    _check(_libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def _check(answer: int, what: str) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
