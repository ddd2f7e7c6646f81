# SPDX-License-Identifier: Apache-2.0
"""Print each UDP datagram to a port of 127.0.0.1 as a line of hexadecimal digits."""

import socket
import sys

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
    sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sink.bind(("127.0.0.1", int(sys.argv[1])))
    print("ready", flush=True)
    while True:
        print(sink.recv(65535).hex(), flush=True)
