#!/usr/bin/env python3
"""Ends of test traffic that know nothing of the product: plain sockets of the kernel.

  traffic.py tcp-serve PORT                    answers put and get, prints "received BYTES" as it goes
  traffic.py tcp-put HOST PORT BYTES SEED      sends seeded bytes, prints both ends' SHA-256
  traffic.py tcp-get HOST PORT BYTES SEED      receives seeded bytes, prints both SHA-256
  traffic.py tcp-stream HOST PORT SEED RATE    put at RATE bytes/s until SIGTERM
  traffic.py udp-serve PORT                    sends every datagram back
  traffic.py udp-echo HOST PORT SEED COUNT SIZE...
                                               COUNT datagrams of each size in a seeded order, every
                                               echo compared
  traffic.py udp-echo-unsummed …               the same without UDP checksums
  traffic.py udp-gso HOST PORT SEED ROUNDS TRAIN...
                                               trains in one call each (UDP_SEGMENT); a TRAIN is
                                               SIZE,COUNT,LAST: the last datagram may be shorter
  traffic.py udp-ask HOST PORT                 asks every 50 ms from one socket until SIGTERM, prints
                                               an answer where it is not that of before

Servers print "ready" once they listen. Clients print one line of JSON; exit status 1 and a line on
stderr where anything was lost or different.
"""
import functools
import hashlib
import json
import random
import signal
import socket
import struct
import sys
import threading
import time

TIMEOUT = 30  # seconds without progress before an end gives up
CHUNK = 256 * 1024
UDP_SEGMENT = 103  # linux/udp.h
SO_NO_CHECK = 11
SO_RCVBUFFORCE = 33
BUFFER = 8 * 1024 * 1024


def say(line):
    print(line, flush=True)


def fail(text):
    sys.stderr.write(text + "\n")
    sys.exit(1)


def blocks(size, seed):
    """`size` pseudo-random bytes that depend on nothing but the seed."""
    generator = random.Random(seed)
    while size > 0:
        block = generator.randbytes(min(size, CHUNK))
        yield block
        size -= len(block)


# ---- TCP ------------------------------------------------------------------------------------------


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            break
        line += byte
    return line.decode().split()


def take_all(connection, report):
    digest, size, reported = hashlib.sha256(), 0, 0
    while True:
        data = connection.recv(CHUNK)
        if not data:
            return digest.hexdigest(), size
        digest.update(data)
        size += len(data)
        if report and size - reported >= 1_000_000:
            reported = size
            say(f"received {size}")


def serve_connection(connection):
    connection.settimeout(TIMEOUT)
    with connection:
        try:
            order = read_line(connection)
            if order[:1] == ["put"]:
                digest, size = take_all(connection, True)
                connection.sendall(f"{digest} {size}\n".encode())
            elif order[:1] == ["get"]:
                for block in blocks(int(order[1]), int(order[2])):
                    connection.sendall(block)
        except OSError as error:
            say(f"connection: {error}")


def tcp_serve(port):
    listener = socket.create_server(("0.0.0.0", int(port)), backlog=64)
    say("ready")
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve_connection, args=(connection,), daemon=True).start()


def report_transfer(sent, received):
    say(json.dumps({"sent": sent, "received": received}))
    if sent != received:
        fail(f"sent {sent}, received {received}")


def tcp_put(host, port, size, seed):
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        connection.sendall(b"put\n")
        digest = hashlib.sha256()
        for block in blocks(int(size), int(seed)):
            digest.update(block)
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        report_transfer([digest.hexdigest(), size], read_line(connection))


def tcp_get(host, port, size, seed):
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        connection.sendall(f"get {size} {seed}\n".encode())
        received, count = take_all(connection, False)
        digest = hashlib.sha256()
        for block in blocks(int(size), int(seed)):
            digest.update(block)
        report_transfer([digest.hexdigest(), int(size)], [received, count])


def tcp_stream(host, port, seed, rate):
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    generator, digest, size = random.Random(int(seed)), hashlib.sha256(), 0
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        connection.sendall(b"put\n")
        while not stop.is_set():
            block = generator.randbytes(65536)
            digest.update(block)
            connection.sendall(block)
            size += len(block)
            time.sleep(len(block) / float(rate))
        connection.shutdown(socket.SHUT_WR)
        report_transfer([digest.hexdigest(), str(size)], read_line(connection))


# ---- UDP ------------------------------------------------------------------------------------------


def udp_socket():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    return udp


def udp_serve(port):
    udp = udp_socket()
    udp.bind(("0.0.0.0", int(port)))
    say("ready")
    while True:
        data, peer = udp.recvfrom(65535)
        udp.sendto(data, peer)


def collect(udp, wanted):
    """Receives until every datagram of the list came back once, in any order."""
    while wanted:
        try:
            data = udp.recv(65535)
        except TimeoutError:
            fail(f"{len(wanted)} datagrams did not come back, the first of {len(wanted[0])} bytes")
        if data not in wanted:
            fail(f"came back changed: a datagram of {len(data)} bytes")
        wanted.remove(data)


def udp_echo(host, port, seed, count, *sizes, unsummed=False):
    """At most 16 datagrams and 64 KiB are under way, so that no buffer can run over."""
    generator = random.Random(int(seed))
    udp = udp_socket()
    udp.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, int(unsummed))
    udp.settimeout(10)
    udp.connect((host, int(port)))
    wanted, total = [], 0
    # Mixed, so that longer, equal and shorter ones follow each other.
    every = [int(size) for size in sizes for _ in range(int(count))]
    generator.shuffle(every)
    for size in every:
        if len(wanted) == 16 or sum(map(len, wanted)) + size > 65536:
            collect(udp, wanted)
        data = generator.randbytes(size)
        wanted.append(data)
        udp.send(data)
        total += 1
    collect(udp, wanted)
    say(json.dumps({"echoed": total}))


def udp_gso(host, port, seed, rounds, *trains):
    generator = random.Random(int(seed))
    udp = udp_socket()
    udp.settimeout(10)
    udp.connect((host, int(port)))
    total = 0
    for size, count, last in [[int(n) for n in train.split(",")] for train in trains] * int(rounds):
        train = [generator.randbytes(size) for _ in range(count - 1)] + [generator.randbytes(last)]
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
        udp.sendmsg([b"".join(train)], control)
        collect(udp, train)
        total += count
    say(json.dumps({"echoed": total}))


def udp_ask(host, port):
    udp = udp_socket()
    udp.settimeout(0.05)
    udp.connect((host, int(port)))
    last = b""
    while True:
        try:
            udp.send(b"who")
            answer = udp.recv(65535)
        except OSError:
            # Nobody answers, or somebody says that nobody is there.
            answer = last
        if answer != last:
            last = answer
            say(answer.decode())
        time.sleep(0.05)


COMMANDS = {
    "tcp-serve": tcp_serve,
    "tcp-put": tcp_put,
    "tcp-get": tcp_get,
    "tcp-stream": tcp_stream,
    "udp-serve": udp_serve,
    "udp-echo": udp_echo,
    "udp-echo-unsummed": functools.partial(udp_echo, unsummed=True),
    "udp-ask": udp_ask,
    "udp-gso": udp_gso,
}

if __name__ == "__main__":
    try:
        COMMANDS[sys.argv[1]](*sys.argv[2:])
    except OSError as error:
        fail(f"{sys.argv[1]}: {error}")
