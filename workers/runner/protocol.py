"""Frames on the Unix socket: a 4-byte big-endian length, then that many bytes, of which the first says what the rest is."""
import json
import socket
import struct
from typing import Any, Iterator

MAX_FRAME = 256 * 1024 * 1024
JSON = b"J"
BYTES = b"B"

_LENGTH = struct.Struct(">I")


class ProtocolError(Exception):
    """The peer sent something that is not a frame; the stream cannot be trusted any more."""


class TaskError(Exception):
    """A task's failure, in the terms of the `error` frame."""

    def __init__(self, code: str, message: str, detail: dict | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail = detail or {}


def frame(kind: bytes, payload: bytes) -> bytes:
    length = 1 + len(payload)
    if length > MAX_FRAME:
        raise TaskError("result_too_large", f"{length} bytes exceed the frame limit of {MAX_FRAME} bytes")
    return _LENGTH.pack(length) + kind + payload


def json_frame(message: dict) -> bytes:
    return frame(JSON, dumps(message))


def dumps(value: Any) -> bytes:
    """Strict JSON. Results rarely hold a NaN, so the copy that replaces them with null is made only after a first try failed."""
    try:
        return _encode(value)
    except ValueError:
        return _encode(finite(value))


def _encode(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain)
    # A lone surrogate, e.g. in the text of an exception, has no UTF-8 form.
    return text.encode("utf-8", errors="replace")


def plain(value: Any) -> Any:
    """numpy scalars and arrays as the Python values they stand for, anything else as text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def finite(value: Any) -> Any:
    """A copy in which numpy values are plain and NaN and infinities, which JSON cannot express, are None."""
    if isinstance(value, float):
        number = float(value)
        return number if number - number == 0.0 else None
    if isinstance(value, (str, int)) or value is None:
        return value
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return finite(plain(value))


class Decoder:
    """Cuts a byte stream, which arrives in pieces of any size, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if not 1 <= length <= MAX_FRAME:
                raise ProtocolError(f"frame of {length} bytes")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            kind, payload = bytes(self._buffer[_LENGTH.size : _LENGTH.size + 1]), bytes(self._buffer[_LENGTH.size + 1 : end])
            del self._buffer[:end]
            yield kind, payload


class Connection:
    """A task's own, blocking connection to the parent; it only ever sends."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)

    @classmethod
    def of(cls, descriptor: int) -> "Connection":
        """One that was made elsewhere."""
        connection = cls.__new__(cls)
        connection._socket = socket.socket(fileno=descriptor)
        return connection

    def fileno(self) -> int:
        return self._socket.fileno()

    def drop(self) -> None:
        """Closes this process's end of it; another process may have it as well."""
        self._socket.close()

    def send(self, message: dict, body: bytes | None = None) -> None:
        data = json_frame(message)
        if body is not None:
            data += frame(BYTES, body)
        self._socket.sendall(data)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()
