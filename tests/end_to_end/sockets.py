"""Bytes and datagrams through sockets: sockets.py give|take tcp|udp ADDRESS [...]

`take tcp` prints the SHA-256 of all that came by one connection, `give tcp` of what it sent. `take udp` prints a line
for each datagram: its length and the CRC-32 of its bytes; `give udp` prints the same of what it sends: datagrams of many
lengths, alone, by the dozen (UDP_SEGMENT), and too long for the MTU."""

import hashlib
import random
import select
import socket
import sys
import time
import zlib

PORT = 5002
UDP_SEGMENT, UDP_GRO = 103, 104


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def take_tcp(address):
    with socket.create_server((address, PORT), family=family(address)) as server:
        print("ready", flush=True)
        connection, _ = server.accept()
        digest = hashlib.sha256()
        while data := connection.recv(1 << 20):
            digest.update(data)
        print(digest.hexdigest())


def give_tcp(address, megabytes):
    digest, draw = hashlib.sha256(), random.Random(7)
    with socket.create_connection((address, PORT), 10) as connection:
        for _ in range(int(megabytes)):
            data = draw.randbytes(1 << 20)
            digest.update(data)
            connection.sendall(data)
    print(digest.hexdigest())


def describe(data):
    print(len(data), zlib.crc32(data), flush=True)


def take_udp(address, gro):
    into = socket.socket(family(address), socket.SOCK_DGRAM)
    into.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
    if gro == "gro":
        into.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    into.bind((address, PORT))
    print("ready", flush=True)
    while sys.stdin not in select.select([into, sys.stdin], [], [])[0]:
        data, control, _, _ = into.recvmsg(1 << 16, 64)
        size = next((int.from_bytes(c[2][:4], sys.byteorder) for c in control if c[1] == UDP_GRO), len(data) or 1)
        for at in range(0, max(len(data), 1), size):
            describe(data[at : at + size])


def give_udp(address):
    draw = random.Random(7)
    connected, free = (socket.socket(family(address), socket.SOCK_DGRAM) for _ in range(2))
    connected.connect((address, PORT))
    for number in range(400):
        size = draw.choice([0, 1, 2, 35, 700, 1200, 1316])
        many = [draw.randbytes(size) for _ in range(draw.randrange(1, 30))] + [draw.randbytes(draw.randrange(size + 1))]
        way = number % 4
        if way == 0 and size > 1:
            many = [part for part in many if part]
            connected.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
            connected.send(b"".join(many))
            connected.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
        elif way == 1:
            many = [draw.randbytes(draw.randrange(1500, 9000))]
            free.sendto(many[0], (address, PORT))
        else:
            for part in many:
                connected.send(part) if way == 2 else free.sendto(part, (address, PORT))
        for part in many:
            describe(part)
        time.sleep(0.001)


if __name__ == "__main__":
    globals()["_".join(sys.argv[1:3])](*sys.argv[3:])
