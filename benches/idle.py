"""Clients that log in and sit: what they cost in memory and CPU."""

import socket
import struct
import time

import machine
import perf
import postgres

FIRST = 16
"""Clients before the first look at the memory: what the first of all costs is not per client."""


def log_in(port):
    client = socket.create_connection(("127.0.0.1", port), 30)
    body = f"user\0{postgres.USER}\0database\0{postgres.DATABASE}\0\0".encode()
    client.sendall(struct.pack("!II", len(body) + 8, 196608) + body)
    said = b""
    while not said.endswith(b"Z\0\0\0\x05I"):
        part = client.recv(4096)
        if not part or said[:1] == b"E":
            raise RuntimeError(f"login: {said + part}")
        said += part
    return client


def sit(row, server, port, pid, seconds):
    clients = [log_in(port) for _ in range(FIRST)]
    try:
        before = machine.resident_bytes(pid)
        clients += [log_in(port) for _ in range(row.clients)]
        time.sleep(2)
        after = machine.resident_bytes(pid)
        window = perf.Window(pid, [server.process.pid])
        time.sleep(seconds)
        seen = window.close()
        return {
            "bytes": (after - before) / row.clients,
            "resident": before,
            "cpu_share": seen["cpu"] / seen["length"],
            "clock": seen["clock"],
            "foreign": seen["foreign"],
            "stolen": seen["stolen"],
        }
    finally:
        for client in clients:
            client.close()
