"""Stands in for perftest's ib_write_bw: two of it meet by TCP and move counters of a made-up sysfs.

``FAKE_SYS`` is the sysfs of this end, ``FAKE_MODE`` what it does. Texts and columns are those that
the real program prints.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

HEADING = " #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]"


def connected(server: str, port: int) -> socket.socket:
    if server:
        try:
            return socket.create_connection((server, port))
        except OSError:
            print(f"Couldn't connect to {server}:{port}", file=sys.stderr)
            print(" Unable to init the socket connection", file=sys.stderr)
            raise SystemExit(1) from None
    with socket.create_server(("127.0.0.1", port)) as listening:
        return listening.accept()[0]


def shake(peer: socket.socket) -> None:
    """Wait for the other end, as the program does at each of its steps."""
    try:
        peer.sendall(b".")
        there = peer.recv(1) == b"."
    except OSError:
        there = False
    if not there:
        print(" Failed to exchange data between server and clients", file=sys.stderr)
        raise SystemExit(1)


def add(path: Path, amount: int) -> None:
    path.write_text(str(int(path.read_text()) + amount))


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("-d", "-i", "-x"):
        parser.add_argument(name)
    for name in ("-p", "-s", "-n"):
        parser.add_argument(name, type=int)
    for name in ("-b", "-F", "--report_gbits", "--ipv6-addr"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("server", nargs="?", default="")
    given = parser.parse_args()
    sys_, mode = Path(os.environ["FAKE_SYS"]), os.environ["FAKE_MODE"]
    device = sys_ / "infiniband" / given.d
    if not device.is_dir():
        print(" Unable to find the Infiniband/RoCE device", file=sys.stderr)
        raise SystemExit(1)
    peer = connected(given.server, given.p)
    if mode == "memory" and given.server:
        print("Couldn't allocate MR with error=12", file=sys.stderr)
        print("Failed to create MR", file=sys.stderr)
        print(" Couldn't create IB resources", file=sys.stderr)
        raise SystemExit(1)
    if mode == "hangs" and given.server:
        peer.recv(1)
        peer.recv(1)
    shake(peer)
    print(" Link type       : Ethernet" if given.x else " Link type       : IB")
    print(HEADING)
    moved = given.s * given.n
    counters = device / "ports" / given.i / "counters"
    if mode == "unreachable" or (mode == "link_local" and given.x == "1"):
        print(" Completion with error at client", file=sys.stderr)
        print(" Failed status-transport retry counter exceeded (12): wr_id 0", file=sys.stderr)
        raise SystemExit(1)
    if mode in ("honest", "link_local", "hardware"):
        if mode == "hardware":
            counters, names, unit = counters.parent / "hw_counters", ("tx_bytes", "rx_bytes"), 1
        else:
            names, unit = ("port_xmit_data", "port_rcv_data"), 4
        for one in names:
            add(counters / one, moved // unit)
    elif mode == "one_way":
        add(counters / ("port_xmit_data" if given.server else "port_rcv_data"), moved // 4)
    elif mode == "eth0":
        for one in ("tx_bytes", "rx_bytes"):
            add(sys_ / "net" / "eth0" / "statistics" / one, moved)
    shake(peer)
    if mode != "silent":
        print(f" {given.s:<7}    {given.n:<10}       97.10              96.95\t\t     0.184917")


if __name__ == "__main__":
    main()
