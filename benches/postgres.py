"""A private PostgreSQL server with pgbench's tables; it and its data are gone when the context ends."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import machine

USER = "bench"
PASSWORD = "bench"
DATABASE = "bench"
SCALE = 10
SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 150
shared_buffers = '256MB'
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
jit = off
max_wal_size = '4GB'
"""

FUNCTIONS = (
    "create function user_function(n int) returns int language plpgsql as 'begin return n + 1; end'",
    "create table with_trigger (n int)",
    "create unlogged table copied (line text)",
    "create function before_insert() returns trigger language plpgsql as 'begin new.n = new.n + 1; return new; end'",
    "create trigger before_insert before insert on with_trigger for each row execute function before_insert()",
)

BIN = Path(os.environ.get("PG_BINDIR", "/usr/bin"))


def environment(**more):
    """For PostgreSQL's programs; unpacked ones find their libraries beside them."""
    libraries = {str(path.parent) for root in BIN.parents for path in root.glob("usr/lib/*/libpq.so.5") if root != Path("/")}
    path = {"LD_LIBRARY_PATH": ":".join(sorted(libraries))} if libraries else {}
    return {**os.environ, "LC_ALL": "C.UTF-8", "PGPASSWORD": PASSWORD, **path, **more}


def version():
    return subprocess.check_output([BIN / "postgres", "--version"], env=environment(), text=True).strip()


class Server:
    def __init__(self, folder, port, process):
        self.folder, self.port, self.process = folder, port, process


@contextlib.contextmanager
def server():
    account = machine.unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="headpond-bench-"))
    process = None
    try:
        machine.give(folder, account)
        run = {"env": environment(), "cwd": folder, "stdin": subprocess.DEVNULL, **account}
        data, port = folder / "data", machine.free_port()
        initdb = [BIN / "initdb", "-D", data, "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **run)
        # Only whoever asks for it gets it.
        machine.certificate(data / "server")
        for name in ("server.key", "server.crt"):
            machine.give(data / name, account)
        with open(data / "postgresql.conf", "a") as file:
            file.write(f"{SETTINGS}ssl = on\nport = {port}\nunix_socket_directories = '{folder}'\n")
        with open(folder / "log", "w") as log:
            process = subprocess.Popen([BIN / "postgres", "-D", data], stdout=log, stderr=log, **run)
        ask(port, "postgres", f"create database {DATABASE}", patience=30)
        load = [BIN / "pgbench", "-i", "-q", "-s", str(SCALE), "-h", "127.0.0.1", "-p", str(port), "-U", USER, DATABASE]
        subprocess.run(load, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **run)
        for statement in FUNCTIONS:
            ask(port, DATABASE, statement)
        ask(port, DATABASE, "checkpoint")
        yield Server(folder, port, process)
    finally:
        if process:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def ask(port, database, query, patience=0):
    """Runs a query by psql, and until it succeeds if told to be patient."""
    command = [BIN / "psql", "-qAtX", "-h", "127.0.0.1", "-p", str(port), "-U", USER, "-d", database, "-c", query]
    deadline = time.monotonic() + patience
    while True:
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        if time.monotonic() >= deadline:
            raise RuntimeError(f"{query}: {done.stderr.strip()}")
        time.sleep(0.1)
