"""The machine: what it is, its free ports, and who keeps it busy."""

import os
import platform
import pwd
import resource
import socket
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def read(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def unprivileged():
    """Arguments of Popen for programs that refuse to run as root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    raise SystemExit("needs an account postgres or nobody to run the database as")


def certificate(stem):
    """Makes a key and a certificate for it that vouches for itself: STEM.key and STEM.crt."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-subj", "/CN=localhost", "-keyout", f"{stem}.key", "-out", f"{stem}.crt"]
    subprocess.run(command, check=True, capture_output=True)


def give(path, options):
    """Makes a path belong to whoever the options of Popen name."""
    if options:
        os.chown(path, options["user"], options["group"])


def free_port():
    """One that the kernel never gives to an outgoing connection: a client in TIME_WAIT would keep it."""
    low, high = map(int, (read("/proc/sys/net/ipv4/ip_local_port_range") or "32768 60999").split())
    for port in range(17000, 65536):
        if low <= port <= high:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SystemExit("no free port")


def tree_seconds(roots):
    """CPU time so far of processes and all that they have started."""
    children, seconds = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = read(stat).rpartition(")")[2].split()
        if fields:
            pid = int(stat.parent.name)
            children.setdefault(int(fields[1]), []).append(pid)
            seconds[pid] = sum(map(int, fields[11:15])) / TICKS
    total, todo = 0, [root for root in roots if root]
    while todo:
        pid = todo.pop()
        total += seconds.get(pid, 0)
        todo += children.get(pid, [])
    return total


def busy_seconds():
    """CPU time of all processes so far, and time stolen by the host."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, read("/proc/stat").split(None, 9)[1:9])
    return (user + nice + system + irq + softirq) / TICKS, steal / TICKS


def schedstat_seconds(pid):
    """CPU time of a process by its own account, which misses part of what io_uring does for it."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(read(thread).split()[0]) for thread in threads) / 1e9


def resident_bytes(pid):
    status = read(f"/proc/{pid}/status")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def wait_until_quiet(patience, limit=0.15):
    """Waits while others use more than a bit of one CPU, for so many seconds at most."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = sum(busy_seconds())
        time.sleep(0.5)
        if sum(busy_seconds()) - before < 0.5 * limit:
            return


def notes():
    cpu = [line.partition(":")[2].strip() for line in read("/proc/cpuinfo").splitlines() if "model name" in line]
    memory = read("/proc/meminfo").split()
    distribution = dict(line.split("=", 1) for line in read("/etc/os-release").splitlines() if "=" in line)
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / 2**20) if memory else None,
        "kernel": platform.release(),
        "system": distribution.get("PRETTY_NAME", "").strip('"'),
        "congestion_control": read("/proc/sys/net/ipv4/tcp_congestion_control").strip(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }
