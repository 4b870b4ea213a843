"""Has a connection vanish without FIN or RST, as a phone that loses its network does. Linux only.

A socket filter that accepts nothing makes the kernel drop all that arrives for the socket: it acknowledges nothing and
resets nothing. It needs no privilege. See `socket(7)` and `bpf(2)` on the classic filters of `SO_ATTACH_FILTER`.
"""

import ctypes
import socket
import struct

_SO_ATTACH_FILTER = 26  # the `socket` module has no name for it
_DROP = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K: of each packet, take 0 bytes


def vanish(sock: socket.socket) -> None:
    """From now on the other side hears nothing from this socket."""
    program = ctypes.create_string_buffer(_DROP, len(_DROP))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
