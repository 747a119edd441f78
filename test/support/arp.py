#!/usr/bin/env python3
"""ARP by hand, on a packet socket: who answers, and what a device does that claims an address.

  arp.py ask IFACE SOURCE TARGET     asks for TARGET every 10 ms; prints the MAC of each reply as it comes
  arp.py claim IFACE ADDRESS TIMES   announces ADDRESS as its own, TIMES times, every 50 ms
  arp.py watch IFACE SOURCE TARGET…  asks for every TARGET every 10 ms; prints who claims one, whether asked
                                     or not: "MICROSECONDS answer|request|reply ADDRESS MAC", the time by the
                                     monotonic clock as the kernel saw the frame; request and reply are gratuitous

ask and watch print "ready" before their first request.
"""
import select
import socket
import struct
import sys
import time

ETH_P_ARP = 0x0806
REQUEST, REPLY = 1, 2
BROADCAST = b"\xff" * 6
NOBODY = b"\0" * 6
PACE = 0.01
CLAIM_PACE = 0.05
# Python has no name for it.
SO_TIMESTAMPNS = 35


def open_socket(interface):
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP))
    link.bind((interface, ETH_P_ARP))
    return link, link.getsockname()[4]


def frame(own, operation, sender, target_mac, target):
    header = BROADCAST + own + struct.pack("!H", ETH_P_ARP)
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return header + arp + own + socket.inet_aton(sender) + target_mac + socket.inet_aton(target)


def ask(interface, source, target):
    link, own = open_socket(interface)
    request = frame(own, REQUEST, source, NOBODY, target)
    print("ready", flush=True)
    due = time.monotonic()
    while True:
        now = time.monotonic()
        if now >= due:
            link.send(request)
            due = now + PACE
        if not select.select([link], [], [], max(0, due - now))[0]:
            continue
        data = link.recv(2048)
        if len(data) < 42 or data[20:22] != struct.pack("!H", REPLY) or data[0:6] != own:
            continue
        if data[28:32] == socket.inet_aton(target):
            print(data[22:28].hex(":"), flush=True)


def claim(interface, address, times):
    link, own = open_socket(interface)
    for _ in range(int(times)):
        link.send(frame(own, REQUEST, address, NOBODY, address))
        time.sleep(CLAIM_PACE)


def receive_stamped(link):
    """A frame, and when the kernel received it, in microseconds of the monotonic clock."""
    data, ancillary, _, _ = link.recvmsg(2048, 64)
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    age = 0
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("qq", value[:16])
            age = time.clock_gettime_ns(time.CLOCK_REALTIME) - (seconds * 10**9 + nanoseconds)
    return data, (now - age) // 1000


def watch(interface, source, *targets):
    link, own = open_socket(interface)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    link.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    wanted = {socket.inet_aton(target): target for target in targets}
    requests = [frame(own, REQUEST, source, NOBODY, target) for target in targets]
    print("ready", flush=True)
    due = time.monotonic()
    while True:
        now = time.monotonic()
        if now >= due:
            for request in requests:
                link.send(request)
            # A slot that was missed is gone.
            due = max(due + PACE, now)
        if not select.select([link], [], [], max(0, due - now))[0]:
            continue
        data, at = receive_stamped(link)
        sender = data[28:32]
        if len(data) < 42 or sender not in wanted or data[22:28] == own:
            continue
        reply = data[20:22] == struct.pack("!H", REPLY)
        gratuitous = data[38:42] == sender
        kind = ("reply" if reply else "request") if gratuitous else "answer"
        print(at, kind, wanted[sender], data[22:28].hex(":"), flush=True)


{"ask": ask, "claim": claim, "watch": watch}[sys.argv[1]](*sys.argv[2:])
