"""Many clients that log in at once, by one process on raw sockets.

usage: crowd.py PORT COUNT USER DATABASE PASSWORD tls|clear
"""

import base64
import functools
import hashlib
import hmac
import os
import select
import socket
import ssl
import struct
import sys
import time

import helper
import machine

PATIENCE = 60
"""Seconds until whoever is not in counts as left outside."""

PORTS = 5000
"""Clients that come from one address."""

IP_BIND_ADDRESS_NO_PORT = 24

CLIENT_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CLIENT_TLS.check_hostname, CLIENT_TLS.verify_mode = False, ssl.CERT_NONE


class Refused(Exception):
    pass


def message(tag, body):
    return tag + struct.pack("!I", len(body) + 4) + body


@functools.cache
def salted_password(password, salt, iterations):
    """The same for all who have the same secret, so that the clients cost little."""
    return hashlib.pbkdf2_hmac("sha256", password, salt, iterations)


def digest(key, text):
    return hmac.digest(key, text, "sha256")


def proof(password, bare, first):
    """The client's last message of SCRAM-SHA-256 (RFC 5802), without channel binding."""
    parts = dict(part.split(b"=", 1) for part in first.split(b","))
    salted = salted_password(password, base64.b64decode(parts[b"s"]), int(parts[b"i"]))
    key = digest(salted, b"Client Key")
    last = b"c=biws,r=" + parts[b"r"]
    signature = digest(hashlib.sha256(key).digest(), b",".join((bare, first, last)))
    return last + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, signature)))


def encrypted(client):
    client.send(struct.pack("!II", 8, 80877103))
    yield select.EPOLLIN
    if client.recv(1) != b"S":
        raise Refused("no TLS")
    client = CLIENT_TLS.wrap_socket(client, do_handshake_on_connect=False)
    while True:
        try:
            client.do_handshake()
            return client
        except ssl.SSLWantReadError:
            yield select.EPOLLIN
        except ssl.SSLWantWriteError:
            yield select.EPOLLOUT


def log_in(client, user, database, password, tls):
    """Yields what it waits for; in the end the client's socket."""
    yield select.EPOLLOUT
    if error := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(error, os.strerror(error))
    if tls:
        client = yield from encrypted(client)
    body = b"user\0%b\0database\0%b\0\0" % (user, database)
    client.send(struct.pack("!II", len(body) + 8, 196608) + body)
    bare = b"n=,r=" + base64.b64encode(os.urandom(18))
    said = b""
    while True:
        while len(said) < 5 or len(said) < (end := 1 + int.from_bytes(said[1:5], "big")):
            yield select.EPOLLIN
            try:
                part = client.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            if not part:
                raise Refused("closed")
            said += part
        tag, body, said = said[:1], said[5:end], said[end:]
        if tag == b"Z":
            return client
        if tag == b"E":
            raise Refused(body.decode(errors="replace"))
        if tag == b"R" and body[3] == 10:
            first = b"n,," + bare
            client.send(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
        elif tag == b"R" and body[3] == 11:
            client.send(message(b"p", proof(password, bare, body[4:])))


def connect(port, number):
    client = socket.socket()
    client.setblocking(False)
    # It leaves by a reset: ports in TIME_WAIT would be missing for the next sample.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # From several addresses: the kernel takes long to find a free port where most are taken.
    client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind((f"127.0.0.{1 + number // PORTS}", 0))
    client.connect_ex(("127.0.0.1", port))
    return client


def burst(port, count, user, database, password, tls, kept):
    """All connect before the first of them says anything. How it went; who is in goes to `kept`."""
    poll, logins, refused = select.epoll(), {}, []
    began = ended = time.time()
    for number in range(count):
        client = connect(port, number)
        login = log_in(client, user, database, password, tls)
        wanted = next(login)
        logins[client.fileno()] = login, wanted, client
        poll.register(client, wanted)
    while logins and time.time() < began + PATIENCE:
        for descriptor, _ in poll.poll(1):
            login, wanted, client = logins[descriptor]
            try:
                now = login.send(None)
                if now != wanted:
                    poll.modify(descriptor, now)
                    logins[descriptor] = login, now, client
                continue
            except StopIteration as done:
                kept.append(done.value)
            except (Refused, OSError) as error:
                refused.append(str(error))
            ended = time.time()
            poll.unregister(descriptor)
            del logins[descriptor]
    return {"began": began, "ended": ended, "in": len(kept), "refused": len(refused), "outside": len(logins), "said": refused[:1]}


def main(port, count, user, database, password, tls):
    # Whoever is measured comes first.
    os.nice(5)
    machine.raise_descriptor_limit()
    kept = []
    helper.serve(lambda: burst(int(port), int(count), user.encode(), database.encode(), password.encode(), tls == "tls", kept))


if __name__ == "__main__":
    main(*sys.argv[1:])
