"""Attacks on a sealed tunnel, by somebody who sees its datagrams and can send any: attack.py KIND [ARGUMENT...]

`capture FILE DEV...` writes down the tunnel's datagrams on interfaces, and `watch DEV` prints the frames that an interface
is given and that are not the tests' own, each until its standard input ends. The others send datagrams with IP headers
of their own (raw(7), IP_HDRINCL), and print how many they have sent to either end, as JSON: `forge FILE`, `replay FILE [PORT]`,
`flip FILE` and `cut FILE` go by what was captured, and `hijack nowhere|uplinks SECONDS DEV...` by what comes meanwhile.
`unreachable SECONDS PORT` tells the box, by ICMP, that the gateway cannot be reached from that port of its first uplink."""

import json
import random
import select
import socket
import struct
import sys
import time
from collections import namedtuple

PORT = 4754
GATEWAY, UPLINK_A = socket.inet_aton("203.0.113.1"), socket.inet_aton("10.101.0.2")
TUNNEL = socket.inet_aton("10.9.0.0")[:3]
SOL_PACKET, PACKET_IGNORE_OUTGOING, SO_RCVBUFFORCE = 263, 23, 33
ETH_P_ALL = 3
ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
DATA, CONTROL = 0x88B5, 0x88B6
LONGEST = 1500
# What any end copes with, so that all of an attack arrives: what is tested is not how fast.
AT_ONCE, PAUSE = 10, 0.002

Datagram = namedtuple("Datagram", "source source_port destination destination_port payload")


def packet(datagram):
    """The kernel fills in the header's length, identification and checksum."""
    source, source_port, destination, destination_port, payload = datagram
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 17, 0, source, destination)
    return header + struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def sniff(device, kind):
    into = socket.socket(socket.AF_PACKET, kind, 0)  # Nothing, until it is bound to an interface.
    into.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    into.bind((device, ETH_P_ALL))
    return into


def datagrams(devices, ends):
    """Those of the tunnel that interfaces carry, until it is the time `ends`, or standard input ends if that is None."""
    sockets = [sniff(device, socket.SOCK_DGRAM) for device in devices]
    print("ready", flush=True)
    while ends is None or time.monotonic() < ends:
        ready = select.select(sockets if ends else [*sockets, sys.stdin], [], [], 0.1)[0]
        if sys.stdin in ready:
            return
        for into in ready:
            data = into.recv(1 << 17)
            if data[0] != 0x45 or data[9] != 17 or len(data) > LONGEST:
                continue
            ports = struct.unpack("!HHH", data[20:26])
            if PORT in ports[:2]:
                yield Datagram(data[12:16], ports[0], data[16:20], ports[1], data[28 : 20 + ports[2]])


def capture(file, *devices):
    with open(file, "w", encoding="ascii") as out:
        for source, source_port, destination, destination_port, payload in datagrams(devices, None):
            print(source.hex(), source_port, destination.hex(), destination_port, payload.hex() or "-", file=out)


def captured(file):
    with open(file, encoding="ascii") as lines:
        for source, source_port, destination, destination_port, payload in map(str.split, lines):
            payload = bytes.fromhex(payload.strip("-"))
            yield Datagram(
                bytes.fromhex(source), int(source_port), bytes.fromhex(destination), int(destination_port), payload
            )


def is_ours(frame):
    kind = struct.unpack("!H", frame[12:14])[0]
    if kind == ARP:
        return frame[28:31] == TUNNEL
    if kind == IPV6:
        # Neighbour discovery and reports of groups, the latter behind a hop-by-hop header.
        return frame[20] in (0, 58)
    return kind == IPV4 and frame[26:29] == frame[30:33] == TUNNEL and frame[23] == 17 and frame[36:38] == b"\x13\x89"


def watch(device):
    into = sniff(device, socket.SOCK_RAW)
    into.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    print("ready", flush=True)
    while True:
        ready = select.select([into, sys.stdin], [], [])[0]
        if into not in ready:
            return
        frame = into.recv(1 << 17)
        if not is_ours(frame):
            print(frame.hex(), flush=True)


class Sender:
    """Sends, and counts what is sent."""

    def __init__(self):
        self.out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.sent = {"gateway": 0, "box": 0, "elsewhere": 0}

    def send(self, datagram, kind=None):
        """To the box there is a way by its first uplink only."""
        if datagram.destination not in (GATEWAY, UPLINK_A):
            return
        self.out.sendto(packet(datagram), (socket.inet_ntoa(datagram.destination), 0))
        self.sent[kind or ("gateway" if datagram.destination == GATEWAY else "box")] += 1
        if sum(self.sent.values()) % AT_ONCE == 0:
            time.sleep(PAUSE)

    def send_from_elsewhere(self, datagram):
        source = bytes([198, 18]) + random.randbytes(2)
        self.send(datagram._replace(source=source, source_port=random.randrange(1024, 65536)), "elsewhere")

    def report(self):
        print(json.dumps(self.sent))


def head(datagram):
    """The protocol, key and counter of a datagram of a session; of a handshake, the protocol and 0, and its kind."""
    _, protocol, key, counter = struct.unpack("!HHII", datagram.payload[:12])
    return (protocol, key, counter) if key else (protocol, 0, datagram.payload[12])


def samples(file):
    """The latest of each kind in each direction."""
    latest = {}
    for datagram in captured(file):
        protocol, key, kind = head(datagram)
        if datagram.destination in (GATEWAY, UPLINK_A):
            latest[datagram.destination, protocol, kind if key == 0 else None] = datagram
    return list(latest.values())


def forge(file):
    sender = Sender()
    templates = [sample for sample in samples(file) if head(sample)[1]]
    for number in range(1500):
        for template in templates:
            protocol, key, counter = head(template)
            ahead = (counter + random.choice([1 + number, 1000, random.getrandbits(31)])) % (1 << 32)
            payload = struct.pack("!HHII", 0x3000, protocol, key, ahead) + random.randbytes(random.randrange(16, 1300))
            sender.send(template._replace(payload=payload))
            if number % 3 == 0:
                sender.send_from_elsewhere(template._replace(payload=payload))
    sender.report()


def at_port(datagram, port):
    """To or from that port of the box's first uplink."""
    if datagram.source == UPLINK_A:
        return datagram._replace(source_port=port)
    return datagram._replace(destination_port=port) if datagram.destination == UPLINK_A else datagram


def replay(file, port=None):
    sender = Sender()
    everything = [at_port(datagram, int(port)) if port else datagram for datagram in captured(file)]
    uplinks = sorted({datagram[:2] for datagram in everything if datagram.destination == GATEWAY})
    for datagram in everything:
        sender.send(datagram)
    for datagram in everything:
        sender.send_from_elsewhere(datagram)
        for source, port in uplinks if datagram.destination == GATEWAY else ():
            sender.send(datagram._replace(source=source, source_port=port))
    sender.report()


def flip(file):
    sender = Sender()
    for sample in samples(file):
        for bit in range(16 * 8):
            payload = bytearray(sample.payload)
            payload[bit // 8] ^= 0x80 >> bit % 8
            sender.send(sample._replace(payload=bytes(payload)))
    sender.report()


def cut(file):
    sender = Sender()
    for sample in samples(file):
        for length in range(61):
            sender.send(sample._replace(payload=sample.payload[:length]))
    sender.report()


def hijack(how, seconds, *devices):
    """Each datagram once more as soon as it has come, from where nobody is, or from the peer's other uplinks."""
    sender = Sender()
    uplinks = set()
    # What is sent here comes by the loopback interface, and so is not seen again.
    for datagram in datagrams(devices, time.monotonic() + float(seconds)):
        if datagram.destination != GATEWAY:
            continue
        uplinks.add(datagram[:2])
        if how == "nowhere":
            sender.send_from_elsewhere(datagram)
            continue
        for source, port in uplinks - {datagram[:2]}:
            sender.send(datagram._replace(source=source, source_port=port))
    sender.report()


# Codes of "destination unreachable" (RFC 792, RFC 1122, RFC 1812), the first of which are not believed at once anyway.
UNREACHABLE, ICMP_CODES = 3, range(16)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def unreachable(seconds, port):
    """Quotes a datagram that the box may have sent."""
    sender = Sender()
    quoted = packet(Datagram(UPLINK_A, int(port), GATEWAY, PORT, bytes(64)))
    quoted = quoted[:2] + struct.pack("!H", len(quoted)) + quoted[4:]
    quoted = quoted[:10] + struct.pack("!H", checksum(quoted[:20])) + quoted[12:]
    ends = time.monotonic() + float(seconds)
    while time.monotonic() < ends:
        for code in ICMP_CODES:
            body = struct.pack("!BBHHH", UNREACHABLE, code, 0, 0, 68) + quoted
            body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
            header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_ICMP, 0, GATEWAY, UPLINK_A)
            sender.out.sendto(header + body, (socket.inet_ntoa(UPLINK_A), 0))
            sender.sent["box"] += 1
        time.sleep(PAUSE)
    sender.report()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
