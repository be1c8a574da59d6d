"""As much of a client of Redis as the benchmarks need, so that none has to be installed."""
import socket


class Connection:
    """A connection. What is not there is None; what Redis refuses is raised as RuntimeError, after all answers were read."""

    def __init__(self, port, patience=60):
        self.socket = socket.create_connection(("127.0.0.1", port), patience)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def call(self, *words):
        return self.calls([words])[0]

    def calls(self, commands):
        """Many commands in one round trip."""
        text = b""
        for command in commands:
            parts = [word if isinstance(word, bytes) else str(word).encode() for word in command]
            text += b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self.socket.sendall(text)
        answers = [self.answer() for _ in commands]
        for answer in answers:
            if isinstance(answer, RuntimeError):
                raise answer
        return answers

    def answer(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))] if int(rest) >= 0 else None
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        return RuntimeError(rest.decode()) if kind == b"-" else rest
