"""Who is compared: how each is configured and run."""

import base64
import contextlib
import functools
import hashlib
import hmac
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import machine
import postgres

CLIENTS_MAX = 12000

HEADPOND = """
listen = ["127.0.0.1:{port}"]
http_listen = ""
sends = "{sends}"
workers = {workers}
max_clients = {clients}
auth_type = "{auth}"
auth_file = "{users}"
pool_mode = "{mode}"
log_level = "error"
"""

HEADPOND_DATA_SOURCE = """
[data_source.{name}]
host = "{host}"
port = {server_port}
database = "{database}"
max_size = {pool}
min_idle = 0
max_waiters = {clients}
session_state = "{state}"
server_tls = "{server_tls}"
"""

HEADPOND_TLS = """
client_tls = "require"
client_tls_cert_file = "{certificate}"
client_tls_key_file = "{key}"
"""

PGBOUNCER_DATABASE = "{name} = host={host} port={server_port} dbname={database}\n"

PGBOUNCER = """
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = {mode}
default_pool_size = {pool}
max_prepared_statements = 200
max_client_conn = {clients}
auth_type = {auth}
auth_file = {users}
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits,search_path
server_tls_sslmode = {server_tls}
"""

PGBOUNCER_TLS = """
client_tls_sslmode = require
client_tls_cert_file = {certificate}
client_tls_key_file = {key}
"""


class Headpond:
    def __init__(self, binaries, sends, workers=1, state="follow"):
        self.program, self.sends, self.workers, self.state = binaries / "headpond", sends, workers, state

    def command(self, folder, values):
        file = folder / "headpond.toml"
        text = (HEADPOND_TLS if values["tls"] else "") + HEADPOND
        text = text.format(sends=self.sends, workers=self.workers, **values)
        for name in values["databases"]:
            text += HEADPOND_DATA_SOURCE.format(name=name, state=self.state, **values)
        file.write_text(text)
        return [self.program, "serve", file]

    def version(self):
        return subprocess.check_output([self.program, "--version"], text=True).strip()


class Floor:
    def __init__(self, binaries, sends):
        self.program, self.sends = binaries / "examples" / "floor", sends

    def command(self, _folder, values):
        server = "{host}:{server_port}".format(**values)
        return [self.program, self.sends, f"127.0.0.1:{values['port']}", server, str(values["pool"]), postgres.USER, postgres.DATABASE]

    def version(self):
        return "the loop of Headpond's worker and nothing else"


class PgBouncer:
    def command(self, folder, values):
        file = folder / "pgbouncer.ini"
        text = "[databases]\n" + "".join(PGBOUNCER_DATABASE.format(name=name, **values) for name in values["databases"])
        text += (PGBOUNCER + (PGBOUNCER_TLS if values["tls"] else "")).format(**values)
        file.write_text(text)
        return [*self.program(), "-q", file]

    @staticmethod
    @functools.cache
    def program():
        return tuple(subprocess.check_output([Path(__file__).with_name("pgbouncer.sh")], text=True).splitlines())

    def version(self):
        return subprocess.check_output([*self.program(), "--version"], text=True).splitlines()[0]


class Direct:
    def version(self):
        return postgres.version()


def contenders(binaries):
    return {
        "headpond": Headpond(binaries, "auto"),
        "headpond-plain": Headpond(binaries, "plain"),
        "headpond-2": Headpond(binaries, "auto", workers=2),
        "headpond-untracked": Headpond(binaries, "auto", state="ignore"),
        "floor": Floor(binaries, "batched"),
        "floor-plain": Floor(binaries, "plain"),
        "pgbouncer": PgBouncer(),
        "direct": Direct(),
    }


DEFAULT = ("headpond", "headpond-plain", "floor", "pgbouncer", "direct")


def databases(row, pooled=True):
    """What clients ask for as database: one name for each pool; on the server all are one."""
    return [f"{postgres.DATABASE}_{number}" for number in range(row.pools)] if pooled and row.pools > 1 else [postgres.DATABASE]


def secret(password, iterations=4096):
    """As PostgreSQL stores it for SCRAM-SHA-256."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    salt, stored, server = (base64.b64encode(part).decode() for part in (salt, stored, hmac.digest(salted, b"Server Key", "sha256")))
    return f"SCRAM-SHA-256${iterations}:{salt}${stored}:{server}"


@contextlib.contextmanager
def running(contender, row, server):
    """Runs a fresh process; its port and its process id, which is None for the server itself."""
    if isinstance(contender, Direct):
        yield server.port, None
        return
    account = machine.unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="headpond-bench-"))
    process = None
    try:
        users = folder / "users.txt"
        users.write_text(f'"{postgres.USER}" "{secret(postgres.PASSWORD) if row.stored else postgres.PASSWORD}"\n')
        values = {
            "port": machine.free_port(),
            "host": server.folder if row.unix else "127.0.0.1",
            "server_port": server.port,
            "database": postgres.DATABASE,
            "databases": databases(row),
            "mode": row.mode,
            "auth": row.auth,
            "users": users,
            "pool": row.pool,
            "clients": max(CLIENTS_MAX, row.crowd + 100),
            "tls": row.tls,
            "server_tls": "require" if row.tls == "both" else "disable",
            "certificate": folder / "tls.crt",
            "key": folder / "tls.key",
        }
        if row.tls:
            machine.certificate(folder / "tls")
        command = contender.command(folder, values)
        for path in (folder, *folder.iterdir()):
            machine.give(path, account)
        with open(folder / "log", "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **account)
        try:
            postgres.ask(values["port"], databases(row)[0], "select 1", patience=10)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{(folder / 'log').read_text()[-2000:]}") from None
        yield values["port"], process.pid
        if process.poll() is not None:
            raise RuntimeError(f"ended by itself:\n{(folder / 'log').read_text()[-2000:]}")
    finally:
        if process:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
        # Its server connections end, and with them what the server does for that.
        time.sleep(0.3)
