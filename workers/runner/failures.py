"""Turns an exception that ended a task into the code, message and detail of an `error` frame."""
import errno
import os
import resource
import sys
import sysconfig
import traceback

from jesse import exceptions

from runner.protocol import TaskError

_MAX_MESSAGE = 2048
_MAX_TRACEBACK = 8192
_MAX_FRAMES = 6

_INVALID_SPEC = (exceptions.InvalidRoutes, exceptions.InvalidConfig, exceptions.InvalidTimeframe, exceptions.InvalidSymbol,
                 exceptions.InvalidDateRange, exceptions.SymbolNotFound, exceptions.NotSupportedError)
_MISSING_CANDLES = (exceptions.CandlesNotFound, exceptions.CandleNotFoundInDatabase, exceptions.CandleNotFoundInExchange)

_LIBRARIES = sysconfig.get_path("purelib") + os.sep
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


def to_task_error(error: BaseException, bundle: str, phase: str) -> TaskError:
    if isinstance(error, TaskError):
        return TaskError(error.code, _shorten(error.message, _MAX_MESSAGE), error.detail)
    if isinstance(error, exceptions.InvalidStrategy) and isinstance(error.__context__, TypeError):
        # Jesse hides the reason why a strategy could not be created behind advice.
        error, phase = error.__context__, "run"
    root = bundle.rstrip("/") + "/"
    stack = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
    own = [entry for entry in stack if entry.filename.startswith(root)]
    code = _code(error, bool(own), phase)
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0] // 2**20
        message = f"{_message(error)}: a file may have {most} MB, and so may all that is printed"
    elif code == "out_of_memory":
        message = f"the memory limit was reached ({_name(error)})"
    else:
        message = _message(error)
    if isinstance(error, SyntaxError) and error.filename:
        location = f"{_relative(error.filename, root)}:{error.lineno}"
    elif own:
        location = f"{_relative(own[-1].filename, root)}:{own[-1].lineno}"
    else:
        location = ""
    suffix = f" ({location})" if location else ""
    return TaskError(code, _shorten(message, _MAX_MESSAGE - len(suffix)) + suffix, {
        "exception": _name(error),
        "traceback": _traceback(stack, root),
        "phase": "import" if phase == "import" else "run",
    })


def _code(error: BaseException, in_strategy: bool, phase: str) -> str:
    """Jesse checks a run with the same exception types before and during it; whose code raised one tells them apart."""
    if isinstance(error, MemoryError):
        return "out_of_memory"
    if isinstance(error, exceptions.RouteNotFound):
        return "invalid_spec"
    if in_strategy or phase in ("import", "run") or isinstance(error, exceptions.InvalidStrategy):
        return "strategy_error"
    if isinstance(error, _MISSING_CANDLES):
        return "candles_missing"
    if isinstance(error, (*_INVALID_SPEC, ValueError, KeyError, TypeError)) and phase != "report":
        return "invalid_spec"
    return "internal_error"


def _message(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        text = error.msg
    else:
        try:
            text = str(error)
        except Exception as broken:  # a strategy's exception class may be as faulty as the rest of it
            text = f"<unprintable: {type(broken).__name__}>"
    return f"{_name(error)}: {text}" if text else _name(error)


def _name(error: BaseException) -> str:
    return type(error).__name__


def _traceback(stack: traceback.StackSummary, root: str) -> str:
    """The innermost calls; where a path is on this machine is nobody's business, so they are relative."""
    entries = [entry for entry in stack if not entry.filename.startswith(_OURS)] or list(stack)
    frames = traceback.StackSummary.from_list([
        (_relative(entry.filename, root), entry.lineno, entry.name, entry.line) for entry in entries[-_MAX_FRAMES:]
    ])
    text = "".join(frames.format())
    return text if len(text) <= _MAX_TRACEBACK else "…" + text[1 - _MAX_TRACEBACK :]


def _relative(path: str, root: str) -> str:
    for prefix in (root, _LIBRARIES, _OURS, sys.base_prefix + os.sep):
        if path.startswith(prefix):
            return path[len(prefix) :]
    return path


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
