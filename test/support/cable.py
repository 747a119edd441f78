#!/usr/bin/env python3
"""A bad cable between two interfaces: loses, doubles, swaps, corrupts and marks frames.

  cable.py DEVICE DEVICE SEED EACH

Of EACH frames that are long enough to hold data, on average one suffers each of these fates. A frame
is corrupted by one bit behind its outer UDP header. Marked is the inner packet of a VXLAN frame: a
congested router's mark (CE, RFC 3168) where the sender asked for that. A swapped frame waits for the
next one. Prints "ready", and on SIGTERM one line of JSON with what it did. Needs no kernel module, as
netem would.
"""
import json
import random
import select
import signal
import socket
import sys

ETH_P_ALL = 3
PACKET_OUTGOING = 4
BUFFER = 8 * 1024 * 1024
SO_RCVBUFFORCE = 33
LONG = 200
# From the start of the outer Ethernet header.
OUTER_CHECKSUM = 14 + 20 + 6
OUTER_END = 14 + 20 + 8
INNER_IP = OUTER_END + 8 + 14
ECT0, CE = 2, 3


def attach(device):
    packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    packet.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    packet.bind((device, ETH_P_ALL))
    # PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC
    request = socket.if_nametoindex(device).to_bytes(4, sys.byteorder) + (1).to_bytes(2, sys.byteorder) + bytes(10)
    packet.setsockopt(263, 1, request)
    return packet


def mark(frame):
    """Sets CE where the inner packet is ECN capable. The outer checksum is left out, which IPv4 allows."""
    if frame[INNER_IP] != 0x45 or frame[INNER_IP + 1] & 3 != ECT0:
        return False
    frame[INNER_IP + 1] |= CE
    header = frame[INNER_IP : INNER_IP + 20]
    header[10:12] = bytes(2)
    total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    frame[INNER_IP + 10 : INNER_IP + 12] = (total ^ 0xFFFF).to_bytes(2, "big")
    frame[OUTER_CHECKSUM : OUTER_CHECKSUM + 2] = bytes(2)
    return True


class Cable:
    def __init__(self, seed, each):
        self.random = random.Random(seed)
        self.each = each
        self.waiting = {}
        self.done = {"passed": 0, "lost": 0, "doubled": 0, "swapped": 0, "corrupted": 0, "marked": 0}

    def pass_on(self, frame, to):
        try:
            to.send(frame)
        except OSError:
            # Longer than the link, or the link is full: a cable knows no better.
            self.done["lost"] += 1

    def carry(self, frame, to):
        done = self.done
        fate = self.random.randrange(self.each) if len(frame) >= LONG else self.each
        earlier = self.waiting.pop(to, None)
        done["passed"] += 1
        if fate == 0:
            done["lost"] += 1
        elif fate == 1:
            done["doubled"] += 1
            self.pass_on(frame, to)
            self.pass_on(frame, to)
        elif fate == 2 and earlier is None:
            done["swapped"] += 1
            self.waiting[to] = frame
        else:
            if fate == 3:
                done["corrupted"] += 1
                bit = self.random.randrange(OUTER_END * 8, len(frame) * 8)
                frame[bit // 8] ^= 1 << (bit % 8)
            elif fate == 4 and mark(frame):
                done["marked"] += 1
            self.pass_on(frame, to)
        if earlier is not None:
            self.pass_on(earlier, to)

    def run(self, a, b):
        other = {a: b, b: a}
        while True:
            ready, _, _ = select.select([a, b], [], [], 0.02)
            if not ready:
                for to, frame in self.waiting.items():
                    self.pass_on(frame, to)
                self.waiting.clear()
            for packet in ready:
                data, sender = packet.recvfrom(65535)
                if sender[2] != PACKET_OUTGOING:
                    self.carry(bytearray(data), other[packet])


def end(cable):
    print(json.dumps(cable.done), flush=True)
    sys.exit(0)


if __name__ == "__main__":
    cable = Cable(int(sys.argv[3]), int(sys.argv[4]))
    ends = [attach(device) for device in sys.argv[1:3]]
    signal.signal(signal.SIGTERM, lambda *_: end(cable))
    print("ready", flush=True)
    cable.run(*ends)
