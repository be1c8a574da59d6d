"""A real Jesse server for tests: a Postgres cluster of its own, a project in a temporary folder, candles in its database.

usage: jesse_server.py PROJECT SERIES.json

SERIES.json is a list of {exchange, symbol, file}, where `file` is an .npy of 1-minute candles in Jesse's column order. Prints
one line of JSON, {url, password, folder} or {skip: why}, and stops everything when its standard input closes, so that nothing
outlives the test. All listens on 127.0.0.1.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from glob import glob
from io import StringIO

import numpy

PASSWORD = "correct horse"
DATABASE_PASSWORD = "database"


def postgres_programs():
    """The folder with initdb: on the path, or where Debian hides it."""
    on_path = [os.path.dirname(found)] if (found := shutil.which("initdb")) else []
    for folder in on_path + sorted(glob("/usr/lib/postgresql/*/bin"), reverse=True):
        if os.access(os.path.join(folder, "initdb"), os.X_OK):
            return folder
    return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """A throw-away cluster. Postgres refuses to run as root, so root runs it as the user of Debian's package."""

    def __init__(self, programs):
        self.user = "postgres" if os.geteuid() == 0 else None
        self.folder = tempfile.mkdtemp(prefix="jesse-jobs-postgres-")
        if self.user:
            shutil.chown(self.folder, self.user)
        self.port = free_port()
        secret = os.path.join(self.folder, "password")
        with open(secret, "w") as file:
            file.write(DATABASE_PASSWORD)
        os.chmod(secret, 0o644)
        data = os.path.join(self.folder, "data")
        self._run(os.path.join(programs, "initdb"), "-D", data, "-U", "jesse_user", f"--pwfile={secret}", "-A", "scram-sha-256",
                  "--no-sync", "-E", "UTF8", "--locale=C")
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off",
                   "shared_buffers": "32MB", "max_connections": 200}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self.log = open(os.path.join(self.folder, "log"), "w")
        self.process = subprocess.Popen([os.path.join(programs, "postgres"), "-D", data, *arguments], user=self.user,
                                        stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, cwd=self.folder)

    def _run(self, *command):
        subprocess.run(command, user=self.user, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def connect(self):
        import psycopg2

        end = time.monotonic() + 60
        while True:
            try:
                return psycopg2.connect(host="127.0.0.1", port=self.port, dbname="postgres", user="jesse_user",
                                        password=DATABASE_PASSWORD)
            except psycopg2.OperationalError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Jesse:
    """`jesse run` on a copy of the project."""

    def __init__(self, project, postgres):
        self.folder = tempfile.mkdtemp(prefix="jesse-jobs-project-")
        shutil.copytree(project, self.folder, dirs_exist_ok=True)
        os.makedirs(os.path.join(self.folder, "storage"), exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {"PASSWORD": PASSWORD, "APP_HOST": "127.0.0.1", "APP_PORT": self.port, "POSTGRES_HOST": "127.0.0.1",
                    "POSTGRES_NAME": "postgres", "POSTGRES_PORT": postgres.port, "POSTGRES_USERNAME": "jesse_user",
                    "POSTGRES_PASSWORD": DATABASE_PASSWORD, "LICENSE_API_TOKEN": "", "IS_TEST_ENV": "FALSE"}
        with open(os.path.join(self.folder, ".env"), "w") as file:
            file.writelines(f"{name}={value}\n" for name, value in settings.items())
        self.log = open(os.path.join(self.folder, "server.log"), "w")
        program = os.path.join(os.path.dirname(sys.executable), "jesse")
        # A session of its own: what it starts goes with it.
        self.process = subprocess.Popen([sys.executable, program, "run", "--skip-lsp", "--skip-agent-rules"], cwd=self.folder,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
                                        # Jesse adds up several routes in the order of a set, which this fixes: the runner has the
                                        # same. Without it the last digits of ratios differ from one run of the server to the next.
                                        env={**os.environ, "PYTHONHASHSEED": "0"})

    def wait(self):
        end = time.monotonic() + 240
        while True:
            try:
                with urllib.request.urlopen(self.url, timeout=5):
                    return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    with open(self.log.name) as log:
                        sys.exit(f"Jesse's server did not start:\n{log.read()[-3000:]}")
                time.sleep(0.2)

    def stop(self):
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sent)
            except ProcessLookupError:
                break
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                continue
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def seed(connection, series):
    """Puts the rows into the table that Jesse has made, past Jesse: a hundred times faster than through it."""
    columns = ("id", "timestamp", "open", "close", "high", "low", "volume", "exchange", "symbol", "timeframe")
    with connection, connection.cursor() as cursor:
        for one in series:
            text = StringIO()
            for row in numpy.load(one["file"]):
                values = [uuid.uuid4(), int(row[0]), *(repr(float(value)) for value in row[1:]), one["exchange"], one["symbol"], "1m"]
                text.write("\t".join(map(str, values)) + "\n")
            text.seek(0)
            cursor.copy_from(text, "candle", columns=columns)


def export(connection, series, folder):
    """What the server reads of each series, as CSV. By the database: the server's own export harms it when it is called twice at once."""
    with connection, connection.cursor() as cursor:
        for number, one in enumerate(series):
            select = cursor.mogrify("select timestamp, open, close, high, low, volume from candle where exchange = %s and symbol = %s "
                                    "order by timestamp", (one["exchange"], one["symbol"])).decode()
            with open(os.path.join(folder, f"{number}.csv"), "w") as file:
                cursor.copy_expert(f"copy ({select}) to stdout with csv header", file)


def main():
    project, series = sys.argv[1:]
    with open(series) as file:
        series = json.load(file)
    programs = postgres_programs()
    if programs is None:
        print(json.dumps({"skip": "Postgres is not installed (scripts/setup installs it where there is apt)"}), flush=True)
        return
    # However this ends, what it has started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    postgres = Postgres(programs)
    jesse = None
    try:
        postgres.connect().close()
        jesse = Jesse(project, postgres)
        jesse.wait()
        connection = postgres.connect()
        seed(connection, series)
        export(connection, series, jesse.folder)
        connection.close()
        print(json.dumps({"url": jesse.url, "password": PASSWORD, "folder": jesse.folder}), flush=True)
        sys.stdin.read()
    finally:
        if jesse:
            jesse.stop()
        postgres.stop()


if __name__ == "__main__":
    main()
