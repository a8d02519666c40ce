"""COPY of much, out or in, over and over: the clients on raw sockets, and what the pooler does meanwhile.

usage: copying.py out|in PORT CLIENTS     a process of its own
"""

import struct
import sys
import threading
import time

import helper
import idle
import load
import perf

OUT = "copy pgbench_accounts to stdout"
# The server reads the lines and keeps none.
IN = "copy copied from stdin where false"
LINE = b"x" * 99 + b"\n"
MESSAGE = 8192
"""Bytes of a CopyData message, about as psql sends them."""
PARTS = 100
"""Of a megabyte, in one COPY."""
READY = b"Z\0\0\0\x05I"


def endure(row, server, port, pid, seconds):
    with helper.Helper("copying.py", row.copy, port, row.clients) as client:
        time.sleep(load.WARM_UP)
        window = perf.Window(pid, [server.process.pid, client.pid])
        before = client.ask()
        time.sleep(seconds - 0.3)
        after = client.ask()
        seen = window.close()
    megabytes = (after["bytes"] - before["bytes"]) / 1e6
    if after["said"] or not megabytes:
        raise RuntimeError(f"COPY: {after['said']}")
    sample = {
        "rate": megabytes / (after["at"] - before["at"]),
        "clock": seen["clock"],
        "foreign": seen["foreign"],
        "stolen": seen["stolen"],
    }
    return {**sample, "cpu_mb": seen["cpu"] * 1e6 / megabytes} if pid else sample


class Client:
    def __init__(self, port, direction):
        self.socket, self.bytes, self.said = idle.log_in(port), 0, ""
        self.room = memoryview(bytearray(1 << 20))
        data = LINE * (MESSAGE // len(LINE))
        copy_data = b"d" + struct.pack("!I", len(data) + 4) + data
        self.part = copy_data * (1_000_000 // len(copy_data))
        threading.Thread(target=self.repeat, args=[self.copy_out if direction == "out" else self.copy_in], daemon=True).start()

    def repeat(self, copy):
        try:
            while True:
                copy()
        except (OSError, RuntimeError) as error:
            self.said = str(error)

    def query(self, text):
        self.socket.sendall(b"Q" + struct.pack("!I", len(text) + 5) + text.encode() + b"\0")

    def receive(self):
        count = self.socket.recv_into(self.room)
        if not count:
            raise RuntimeError("closed in the middle")
        return count

    def answer(self):
        """The beginning of the server's answer; no error."""
        count = self.receive()
        if self.room[0] == ord("E"):
            raise RuntimeError(f"refused: {bytes(self.room[:count])}")
        return bytes(self.room[:count])

    def copy_out(self):
        self.query(OUT)
        last = self.answer()[-len(READY):]
        # No line holds a zero byte, so what looks like ReadyForQuery is one.
        while last != READY:
            count = self.receive()
            self.bytes += count
            last = (last + bytes(self.room[max(0, count - len(READY)):count]))[-len(READY):]

    def copy_in(self):
        self.query(IN)
        self.answer()
        for _ in range(PARTS):
            self.socket.sendall(self.part)
            self.bytes += len(self.part)
        self.socket.sendall(b"c\0\0\0\x04")
        last = self.answer()
        while last[-len(READY):] != READY:
            last += self.answer()


def main(direction, port, count):
    clients = [Client(int(port), direction) for _ in range(int(count))]
    helper.serve(lambda: {
        "at": time.time(),
        "bytes": sum(client.bytes for client in clients),
        "said": "; ".join(client.said for client in clients if client.said),
    })


if __name__ == "__main__":
    main(*sys.argv[1:])
