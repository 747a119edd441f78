#!/usr/bin/env python3
"""Servers that say who they are, and clients that ask.

  names.py serve PORT NAME          answers NAME to every datagram and every TCP connection; a connection
                                    is kept and says NAME again to each line that comes
  names.py udp HOST PORT FROM       asks from port FROM every 50 ms, prints each answer
  names.py tcp HOST PORT            asks once, prints the answer
  names.py keep HOST PORT           asks on one connection every 50 ms, prints each answer

Servers print "ready" once they listen.
"""
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


{"serve": serve, "udp": udp, "tcp": tcp, "keep": keep}[sys.argv[1]](*sys.argv[2:])
