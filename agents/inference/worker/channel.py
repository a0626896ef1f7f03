"""The worker's end of the socket: blocking frames in, frames out. One thread uses it."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from ..frames import BODY_LEN_MAX, HEADER, Buffer, Frame, FrameType, pack_header, unpack_header

CHUNK = 64 * 1024
PARTS_MAX = 64
"""Buffers in one sendmsg; the kernel's limit is 1024."""


class Channel:
    """A connected stream socket that speaks frames."""

    def __init__(self, sock: socket.socket, body_len_max: int = BODY_LEN_MAX) -> None:
        self._sock = sock
        self._body_len_max = body_len_max
        self._buffer = bytearray()
        """Bytes that came ahead of the frame being read."""

    def receive(self) -> Frame | None:
        """Wait for the next frame; None when the other end closed between frames."""
        if not self._fill(HEADER.size):
            return None
        frame_type, frame_id, fields_len, body_len = unpack_header(self._buffer, self._body_len_max)
        size = HEADER.size + fields_len
        if not self._fill(size):
            return None
        fields = bytes(self._buffer[HEADER.size : size])
        del self._buffer[:size]
        body = self._take(body_len)
        return None if body is None else Frame(frame_type, frame_id, fields, body)

    def send(self, frame_type: FrameType, frame_id: int, fields: bytes = b"", body: Sequence[Buffer] = ()) -> None:
        """Write one frame, however long the other end takes to read it."""
        head = pack_header(frame_type, frame_id, len(fields), sum(len(part) for part in body))
        parts = [memoryview(part) for part in (head + fields, *body) if len(part)]
        if len(parts) > PARTS_MAX:
            parts = [memoryview(b"".join(parts))]
        while parts:
            sent = self._sock.sendmsg(parts)
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if sent:
                parts[0] = parts[0][sent:]

    def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            data = self._sock.recv(CHUNK)
            if not data:
                return False
            self._buffer += data
        return True

    def _take(self, size: int) -> bytearray | None:
        """`size` bytes in a buffer of their own, so that a tensor may be a writable view of it."""
        body = self._buffer[:size]
        del self._buffer[:size]
        have = len(body)
        if have == size:
            return body
        body.extend(bytes(size - have))
        view = memoryview(body)
        while have < size:
            count = self._sock.recv_into(view[have:])
            if not count:
                return None
            have += count
        return body
