"""Ethernet frames of every kind, sent and seen as they are: frames.py send DEV SEED | see DEV

`send` hands frames and super-frames to an interface, with a vnet header as a virtual machine does (packet(7),
PACKET_VNET_HDR). `see` prints in hexadecimal those that come by an interface, until its standard input ends."""

import random
import select
import socket
import struct
import sys
import time

MARK = bytes.fromhex("02b1d0000001")
TO = bytes.fromhex("02b1d0000002")
SOL_PACKET, PACKET_AUXDATA, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 8, 15, 23
ETH_P_ALL = 3
VLAN_VALID, TPID_VALID = 1 << 4, 1 << 6
TCP, UDP = 6, 17


def summed(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Flow:
    """One flow's headers, and how far it has come."""

    def __init__(self, draw):
        self.draw = draw
        self.v6 = draw.random() < 0.5
        self.protocol = draw.choice([TCP, TCP, UDP])
        size = 16 if self.v6 else 4
        self.addresses = draw.randbytes(size - 1) + b"\x05" + draw.randbytes(size - 1) + b"\x07"
        if not self.v6:
            self.addresses = b"\x0a\x63" + self.addresses[2:4] + b"\x0a\x63" + self.addresses[6:8]
        self.ports = draw.randbytes(4)
        self.tags = draw.choice([b"", b"", bytes.fromhex("8100000a"), bytes.fromhex("8100200a")])
        self.options = draw.choice([b"", bytes.fromhex("0101080a") + draw.randbytes(8)]) if self.protocol == TCP else b""
        self.identification = draw.randrange(0x10000)
        self.sequence = draw.randrange(1 << 32)

    def packet(self, payload, flags, partial, extra=b""):
        """Ethernet to payload; with `partial` the checksum is only begun. `extra`: IPv4 options, or an IPv6 extension."""
        if self.protocol == TCP:
            words = 5 + len(self.options) // 4
            sequence = struct.pack("!II", self.sequence, 7)
            transport = self.ports + sequence + bytes([words << 4, flags]) + b"\x02\x00" + bytes(4) + self.options
            checksum_at = 16
            self.sequence = (self.sequence + len(payload)) % (1 << 32)
        else:
            transport = self.ports + struct.pack("!HH", 8 + len(payload), 0)
            checksum_at = 6
        length = len(transport) + len(payload)
        pseudo = self.addresses + struct.pack("!II", length, self.protocol)
        begun = summed(pseudo) if partial else 0xFFFF ^ summed(pseudo + transport + payload)
        if not partial and self.protocol == UDP:
            begun = begun or 0xFFFF
        transport = transport[:checksum_at] + struct.pack("!H", begun) + transport[checksum_at + 2 :]
        network = self.network(length, extra)
        kind = bytes.fromhex("86dd" if self.v6 else "0800")
        ethernet = TO + MARK + self.tags + kind
        return ethernet + network + transport + payload, len(ethernet + network), checksum_at

    def network(self, length, extra):
        if self.v6:
            following = bytes([60 if extra else self.protocol])
            return struct.pack("!IH", 0x60000000, len(extra) + length) + following + b"\x40" + self.addresses + extra
        header = bytes([0x45 + len(extra) // 4, 0]) + struct.pack("!HH", 20 + len(extra) + length, self.identification)
        header += b"\x40\x00\x40" + bytes([self.protocol, 0, 0]) + self.addresses + extra
        return header[:10] + struct.pack("!H", 0xFFFF ^ summed(header)) + header[12:]

    def super_frame(self):
        size = self.draw.choice([200, 333, 1000, 1280])
        limit = 60 if self.protocol == UDP else 45
        payload = self.draw.randbytes(min(size * self.draw.randrange(2, limit) + self.draw.randrange(-size, size), 60_000))
        if len(payload) <= size:
            payload = self.draw.randbytes(2 * size)
        flags = self.draw.choice([0x10, 0x18, 0x19, 0x50])
        frame, start, offset = self.packet(payload, flags, True)
        kind = 5 if self.protocol == UDP else 4 if self.v6 else 1
        segments = -(-len(payload) // size)
        self.identification = (self.identification + segments) % 0x10000
        headers = len(frame) - len(payload)
        return struct.pack("<BBHHHH", 1, kind, headers, size, start, offset) + frame

    def single(self, payload, flags=0x10, **how):
        frame, start, offset = self.packet(payload, flags, how.pop("partial", False), **how)
        self.identification = (self.identification + 1) % 0x10000
        return frame, start, offset

    def run(self):
        """Single frames that follow one another, one of which may be spoiled, padded, or only begun."""
        size, spoiled = self.draw.choice([60, 700, 1280]), self.draw.randrange(24)
        for number in range(24):
            last = number == 23
            frame, start, offset = self.single(self.draw.randbytes(size // 2 if last else size), 0x18 if last else 0x10)
            if number == spoiled and self.draw.random() < 0.5:
                at = start + offset
                frame = frame[:at] + bytes([frame[at] ^ 0x55]) + frame[at + 1 :]
            elif number == spoiled:
                frame += b"\0\0\0"
            yield bytes(10) + frame


def odd_frames(draw):
    ethernet = TO + MARK
    yield ethernet + bytes.fromhex("88b5") + draw.randbytes(46)
    yield ethernet + bytes.fromhex("88b5") + draw.randbytes(1400)
    yield ethernet + struct.pack("!H", 50) + bytes.fromhex("aaaa03000000") + draw.randbytes(44)
    yield ethernet + bytes.fromhex("0806000108000604000102b1d000000100000000000000000000") + bytes(18)
    flow = Flow(draw)
    flow.v6, flow.addresses, flow.protocol, flow.options = False, bytes([10, 99, 0, 1, 10, 99, 0, 2]), UDP, b""
    yield flow.single(draw.randbytes(99), extra=bytes.fromhex("94040000"))[0]
    for fragment in [0x2000, 0x2003, 0x0006]:
        frame = bytearray(flow.single(draw.randbytes(24))[0])
        at = 14 + len(flow.tags)
        frame[at + 6 : at + 8] = struct.pack("!H", fragment)
        frame[at + 10 : at + 12] = b"\0\0"
        frame[at + 10 : at + 12] = struct.pack("!H", 0xFFFF ^ summed(bytes(frame[at : at + 20])))
        yield bytes(frame)
    yield flow.single(b"")[0]
    flow.v6, flow.addresses = True, bytes(15) + b"\x01" + bytes(15) + b"\x02"
    yield flow.single(draw.randbytes(99), extra=bytes([UDP, 0, 1, 4, 0, 0, 0, 0]))[0]


def all_frames(seed):
    draw = random.Random(seed)
    for _ in range(12):
        yield from (bytes(10) + frame for frame in odd_frames(draw))
        flow = Flow(draw)
        yield from flow.run()
        flow = Flow(draw)
        for _ in range(3):
            yield flow.super_frame()
        frame, start, offset = flow.single(draw.randbytes(500), partial=True)
        yield struct.pack("<BBHHHH", 1, 0, 0, 0, start, offset) + frame


def send(device, seed):
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    out.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    out.bind((device, 0))
    for number, frame in enumerate(all_frames(seed)):
        out.send(frame)
        # A burst, and then a moment to carry it: what is tested is not how fast.
        if number % 40 == 39:
            time.sleep(0.02)


def see(device):
    into = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    into.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
    into.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    into.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    into.bind((device, ETH_P_ALL))
    print("ready", flush=True)
    while True:
        ready = select.select([into, sys.stdin], [], [])[0]
        if into not in ready:
            return
        frame, control, _, _ = into.recvmsg(1 << 17, 256)
        for level, kind, data in control:
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                status, *_, tci, tpid = struct.unpack("IIIHHHH", data)
                if status & VLAN_VALID:
                    tag = struct.pack("!HH", tpid if status & TPID_VALID else 0x8100, tci)
                    frame = frame[:12] + tag + frame[12:]
        if frame[6:12] == MARK:
            print(frame.hex(), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], int(sys.argv[3]))
    else:
        see(sys.argv[2])
