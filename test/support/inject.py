#!/usr/bin/env python3
"""Sends prepared packets, whatever they are.

  inject.py udp SOURCE PORT DESTINATION PORT FILE    as datagrams of an ordinary socket
  inject.py train SOURCE PORT DESTINATION PORT FILE  the same in one call (UDP_SEGMENT); all but the
                                                     last are of one length
  inject.py frames DEVICE FILE                       as frames, through a packet socket

FILE holds packets, each behind its length (two bytes, big-endian). Prints how many were sent. A
packet that the kernel refuses is an error, except that frames may be refused for their length.
"""
import errno
import socket
import struct
import sys

UDP_SEGMENT = 103  # linux/udp.h


def packets(path):
    with open(path, "rb") as file:
        data = file.read()
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        yield data[at + 2 : at + 2 + length]
        at += 2 + length


def udp(source, source_port, destination, port, path):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((source, int(source_port)))
    sent = 0
    for packet in packets(path):
        sent += 1
        sender.sendto(packet, (destination, int(port)))
    return sent


def train(source, source_port, destination, port, path):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((source, int(source_port)))
    every = list(packets(path))
    control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", len(every[0])))]
    sender.sendmsg(every, control, 0, (destination, int(port)))
    return len(every)


def frames(device, path):
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.bind((device, 0))
    sent = 0
    for packet in packets(path):
        try:
            sender.send(packet)
            sent += 1
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EMSGSIZE):
                raise
    return sent


if __name__ == "__main__":
    print({"udp": udp, "train": train, "frames": frames}[sys.argv[1]](*sys.argv[2:]))
