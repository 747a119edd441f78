#!/usr/bin/env python3
"""Servers that say who they are, and clients that ask.

  names.py serve PORT NAME          answers NAME to every datagram and every TCP connection; a connection
                                    is kept and says NAME again to each line that comes
  names.py udp HOST PORT FROM       asks from port FROM every 50 ms, prints each answer
  names.py tcp HOST PORT            asks once, prints the answer
  names.py keep HOST PORT           asks on one connection every 50 ms, prints each answer
  names.py many PORT LIMIT HOST...  asks on a connection of its own every 50 ms, each host in turn, until
                                    SIGTERM, and waits LIMIT seconds for each answer; prints each answer,
                                    or "failed" and why; exit status 1 where one failed

Servers print "ready" once they listen.
"""
import itertools
import signal
import socket
import sys
import threading
import time

INTERVAL = 0.05
TIMEOUT = 5


def say(line):
    print(line, flush=True)


def serve_connection(connection, name):
    with connection, connection.makefile("rw") as stream:
        try:
            for _ in stream:
                stream.write(f"{name}\n")
                stream.flush()
        except OSError:
            pass


def serve(port, name):
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("0.0.0.0", int(port)))
    listener = socket.create_server(("0.0.0.0", int(port)), backlog=64)

    def answer():
        while True:
            _, client = datagrams.recvfrom(2048)
            datagrams.sendto(f"{name}\n".encode(), client)

    threading.Thread(target=answer, daemon=True).start()
    say("ready")
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve_connection, args=(connection, name), daemon=True).start()


def udp(host, port, source):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.bind(("0.0.0.0", int(source)))
    client.settimeout(INTERVAL)
    while True:
        # Not connected: ICMP errors are not asked about.
        client.sendto(b"who\n", (host, int(port)))
        try:
            say(client.recv(2048).decode().strip())
        except socket.timeout:
            say("nobody")
        time.sleep(INTERVAL)


def tcp(host, port):
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        connection.sendall(b"who\n")
        say(connection.recv(2048).decode().strip())


def keep(host, port):
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        while True:
            connection.sendall(b"who\n")
            say(connection.recv(2048).decode().strip())
            time.sleep(INTERVAL)


def many(port, limit, *hosts):
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    failures = []

    def ask(host):
        begun = time.monotonic()
        try:
            with socket.create_connection((host, int(port)), timeout=float(limit)) as connection:
                connection.sendall(b"who\n")
                connection.settimeout(max(begun + float(limit) - time.monotonic(), 0.001))
                answer = connection.recv(2048).decode().strip()
            if answer == "":
                raise OSError("closed without an answer")
            say(answer)
        except OSError as error:
            failures.append(error)
            say(f"failed after {time.monotonic() - begun:.1f} s: {host}: {error}")

    threads = []
    for n in itertools.count():
        if stop.wait(INTERVAL):
            break
        threads = [each for each in threads if each.is_alive()]
        threads.append(threading.Thread(target=ask, args=(hosts[n % len(hosts)],)))
        threads[-1].start()
    for each in threads:
        each.join()
    sys.exit(1 if failures else 0)


{"serve": serve, "udp": udp, "tcp": tcp, "keep": keep, "many": many}[sys.argv[1]](*sys.argv[2:])
