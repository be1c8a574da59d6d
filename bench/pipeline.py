"""A cheap client: requests that are ready-made bytes, several in flight on each connection, answers only counted."""
import asyncio
import os
import re

STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d)")
CLOCK = os.sysconf("SC_CLK_TCK")


class Sender(asyncio.Protocol):
    """One connection. `following()` makes the next request, or None if there is none for now; `answered(status)` is told of each answer,
    and `lost()` of an end that nobody asked for."""

    def __init__(self, load, in_flight=8):
        self.load, self.in_flight, self.flying, self.tail, self.closing = load, in_flight, 0, b"", False

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        while self.flying < self.in_flight and (request := self.load.following()) is not None:
            self.flying += 1
            self.transport.write(request)

    def data_received(self, data):
        # A status line may come in two parts, and what is kept of the last part is too short for a whole one.
        data = self.tail + data
        self.tail = data[-11:]
        for status in STATUS.findall(data):
            self.flying -= 1
            self.load.answered(status)
        self.send()

    def connection_lost(self, error):
        if not self.closing:
            self.load.lost()

    def close(self):
        self.closing = True
        self.transport.close()


async def connect(load, ports, connections, in_flight=8):
    """As many connections, to these ports in turn."""
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Sender(load, in_flight), "127.0.0.1", ports[number % len(ports)])
            for number in range(connections)]
    return [sender for _, sender in made]


def figures(pid):
    """Megabytes and processor seconds of a process."""
    with open(f"/proc/{pid}/status") as status:
        resident = next(line for line in status if line.startswith("VmRSS"))
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(resident.split()[1]) / 1024, (int(fields[11]) + int(fields[12])) / CLOCK
