#!/usr/bin/env python3
"""Sends single packets, bytes as they are, from machines and pods of a test's network, and tells where
which of them are seen. Knows nothing of the product: packet and raw sockets of the kernel.

  station.py SOCKET PORT   listens there (unix); one JSON object per line in both directions

  asked                                                           answered {"done": id, "error": text | null}
    {"id", "do": "open", "at", "netns", "device"}                 a packet socket on a device; "mac" is answered
    {"id", "do": "node", "at", "netns", "device", "port"}         raw sockets that hear what the node's
                                                                  programs get, and the VXLAN port on a device
    {"id", "do": "listen", "at", "port"}                          a program of the node that has a UDP port, and
                                                                  says nothing
    {"id", "do": "close", "at"}
    {"id", "do": "frame", "at", "hex"}                            from a packet socket
    {"id", "do": "packet", "at", "hex"}                           from a node's program: IP_HDRINCL
    {"id", "do": "udp", "at", "from", "to", "hex"}                from a node's program: an ordinary socket;
                                                                  addresses are ["192.0.2.1", 5000]
    {"id", "do": "arp", "at", "sender", "target", "seconds"}      asks who has an address; "mac" is answered,
                                                                  "" where nobody says so in time

  told without being asked: {"at", "how": "frame" | "program" | "tunnel", "hex"} of everything that has
  the mark in it, and of every TCP reset but those of PORT (the cluster's own API).
"""
import ctypes
import errno
import json
import os
import selectors
import socket
import struct
import sys
import time

MARK = b"pwTr"
ETH_P_ALL = 3
CLONE_NEWNET = 0x40000000
SO_RCVBUFFORCE = 33
BUFFER = 8 << 20
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "icmp": socket.IPPROTO_ICMP}
libc = ctypes.CDLL(None, use_errno=True)


def enter(path):
    """Into a network namespace: sockets stay in the one that they were made in."""
    file = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(file, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {path}")
    finally:
        os.close(file)


def packet_socket(device):
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    made.bind((device, ETH_P_ALL))
    made.setblocking(False)
    return made


def is_reset(packet, port):
    """Whether an IPv4 packet is a TCP reset, and none of a port's."""
    l4 = (packet[0] & 15) * 4 if packet else 0
    if len(packet) <= l4 + 13 or packet[9] != 6 or packet[l4 + 13] & 4 == 0:
        return False
    return port not in struct.unpack_from("!HH", packet, l4)


class Station:
    def __init__(self, path, port):
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.places = {}
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        print("ready", flush=True)
        self.peer, _ = listener.accept()
        self.text = b""
        self.watch(self.peer, self.asked)

    def watch(self, watched, handler):
        self.selector.register(watched, selectors.EVENT_READ, handler)

    def run(self):
        while True:
            for key, _ in self.selector.select():
                # One that was closed by what came before it.
                if key.fileobj.fileno() >= 0:
                    key.data()

    def say(self, message):
        self.peer.sendall(json.dumps(message).encode() + b"\n")

    def asked(self):
        data = self.peer.recv(1 << 16)
        if not data:
            sys.exit(0)
        *lines, self.text = (self.text + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            answer = {"done": request["id"], "error": None}
            try:
                answer.update(getattr(self, "do_" + request["do"])(request) or {})
            except OSError as error:
                answer["error"] = str(error)
            self.say(answer)

    # ---- what is asked ----------------------------------------------------------------------------

    def do_open(self, request):
        enter(request["netns"])
        made = packet_socket(request["device"])
        self.places[request["at"]] = {"frame": made}
        self.watch(made, lambda: self.framed(request["at"], made))
        return {"mac": made.getsockname()[4].hex(":")}

    def do_node(self, request):
        enter(request["netns"])
        at = request["at"]
        place = {"tunnel": packet_socket(request["device"]), "netns": request["netns"], "vxlan": request["port"]}
        place["send"] = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.places[at] = place
        self.watch(place["tunnel"], lambda: self.tunnelled(at))
        for name, protocol in PROTOCOLS.items():
            made = place[name] = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
            made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
            made.setblocking(False)
            self.watch(made, lambda made=made: self.programmed(at, made))

    def do_listen(self, request):
        place, port = self.places[request["at"]], request["port"]
        if port in place:
            return
        enter(place["netns"])
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.bind(("0.0.0.0", port))
        except OSError as error:
            made.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            place[port] = made

    def do_close(self, request):
        for each in self.places.pop(request["at"]).values():
            if isinstance(each, socket.socket):
                if each in self.selector.get_map():
                    self.selector.unregister(each)
                each.close()

    def do_frame(self, request):
        self.places[request["at"]]["frame"].send(bytes.fromhex(request["hex"]))

    def do_packet(self, request):
        packet = bytes.fromhex(request["hex"])
        self.places[request["at"]]["send"].sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    def do_udp(self, request):
        place, (_, port) = self.places[request["at"]], request["from"]
        data, to = bytes.fromhex(request["hex"]), tuple(request["to"])
        if port in place:
            # The program that listens there.
            place[port].sendto(data, to)
            return
        enter(place["netns"])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            made.bind(tuple(request["from"]))
            made.sendto(data, to)

    def do_arp(self, request):
        asking = self.places[request["at"]]["frame"]
        mac = asking.getsockname()[4]
        sender, target = socket.inet_aton(request["sender"]), socket.inet_aton(request["target"])
        question = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + sender + bytes(6) + target
        asking.send(b"\xff" * 6 + mac + b"\x08\x06" + question)
        end = time.monotonic() + request["seconds"]
        while time.monotonic() < end:
            frame = self.received(asking)
            if frame is None:
                time.sleep(0.001)
                continue
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02" and frame[28:32] == target:
                return {"mac": frame[22:28].hex(":")}
            self.tell_frame(request["at"], frame)
        return {"mac": ""}

    # ---- what is seen -----------------------------------------------------------------------------

    def received(self, made):
        """A frame that came in; None where there is none."""
        while True:
            try:
                frame, sender = made.recvfrom(65536)
            except BlockingIOError:
                return None
            except OSError:
                # Its device went down.
                return None
            if sender[2] != socket.PACKET_OUTGOING:
                return frame

    def framed(self, at, made):
        while (frame := self.received(made)) is not None:
            self.tell_frame(at, frame)

    def tell_frame(self, at, frame):
        if frame[12:14] == b"\x08\x00" and (MARK in frame or is_reset(frame[14:], self.port)):
            self.say({"at": at, "how": "frame", "hex": frame.hex()})

    def tunnelled(self, at):
        place = self.places[at]
        port = struct.pack("!H", place["vxlan"])
        while (frame := self.received(place["tunnel"])) is not None:
            datagram = frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == port
            if datagram and (MARK in frame or is_reset(frame[64:], self.port)):
                self.say({"at": at, "how": "tunnel", "hex": frame.hex()})

    def programmed(self, at, made):
        while True:
            try:
                packet = made.recv(65536)
            except OSError:
                return
            # A raw socket gets the tunnel's datagrams too.
            outer = packet[9] == 17 and packet[22:24] == struct.pack("!H", self.places[at]["vxlan"])
            if not outer and (MARK in packet or is_reset(packet, self.port)):
                self.say({"at": at, "how": "program", "hex": packet.hex()})


if __name__ == "__main__":
    Station(sys.argv[1], int(sys.argv[2])).run()
