"""The columns of a node table in memory that the planner writes and a policy process can only read.

The planner copies its columns in before it asks, so whatever a process does to its own view, the planner's numbers
are its own. On Linux the memory is a sealed memfd, elsewhere an unlinked temporary file opened a second time for
reading.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .node_table import COLUMNS, MOVING_COLUMNS, STATIC_COLUMNS, IntArray, NodeTable

F_SEAL_FUTURE_WRITE = 0x0010
"""Linux 5.1: no new writable mapping, while the present one goes on. Python 3.11 has no name for it."""

Columns = dict[str, NDArray[Any]]


class SharedColumns:
    """The planner's side: columns for `nodes` nodes and `kinds` kinds of accelerators."""

    def __init__(self, nodes: int, kinds: int) -> None:
        self.nodes = nodes
        self.kinds = kinds
        size = max(1, size_of(nodes, kinds))
        self._writable, self.fd = _memory(size)
        self._map = mmap.mmap(self._writable, size)
        _seal(self.fd, self._writable)
        self._columns, self._accelerators = _views(self._map, nodes, kinds)

    def write_static(self, table: NodeTable) -> None:
        """Copy what changes with descriptions."""
        for name in STATIC_COLUMNS:
            np.copyto(self._columns[name], getattr(table, name))

    def write_moving(self, table: NodeTable) -> None:
        """Copy what changes with placements."""
        for name in MOVING_COLUMNS:
            np.copyto(self._columns[name], getattr(table, name))
        np.copyto(self._accelerators, table.accelerators_free)

    def close(self) -> None:
        """Give the memory back."""
        self._columns, self._accelerators = {}, np.zeros((0, 0), dtype=np.int64)
        self._map.close()
        os.close(self.fd)
        if self._writable != self.fd:
            os.close(self._writable)


def read_columns(fd: int, nodes: int, kinds: int) -> tuple[Columns, IntArray]:
    """The policy process' side: columns by name, and free accelerators of shape `(nodes, kinds)`."""
    size = max(1, size_of(nodes, kinds))
    return _views(mmap.mmap(fd, size, prot=mmap.PROT_READ), nodes, kinds)


def size_of(nodes: int, kinds: int) -> int:
    """Bytes: eight a number, columns one after the other."""
    return 8 * nodes * (len(COLUMNS) + kinds)


def _views(memory: mmap.mmap, nodes: int, kinds: int) -> tuple[Columns, IntArray]:
    columns: Columns = {
        name: np.frombuffer(memory, dtype=kind, count=nodes, offset=8 * nodes * at)
        for at, (name, kind) in enumerate(COLUMNS.items())
    }
    offset = 8 * nodes * len(COLUMNS)
    accelerators = np.frombuffer(memory, dtype=np.int64, count=nodes * kinds, offset=offset if kinds and nodes else 0)
    return columns, accelerators.reshape(kinds, nodes).T


def _memory(size: int) -> tuple[int, int]:
    """Two descriptors of new memory: one to write through, one to hand out."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("shoal-nodes", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        return fd, fd
    fd, path = tempfile.mkstemp(prefix="shoal-nodes-")
    try:
        os.ftruncate(fd, size)
        return fd, os.open(path, os.O_RDONLY)
    finally:
        Path(path).unlink()


def _seal(fd: int, writable: int) -> None:
    if fd == writable:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | F_SEAL_FUTURE_WRITE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
