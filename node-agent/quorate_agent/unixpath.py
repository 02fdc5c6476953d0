"""Connects to a Unix socket by a path of any length: the kernel takes 107 bytes only; a descriptor of its folder makes any path short."""

import os
import socket
from pathlib import Path


def connect(link: socket.socket, path: str) -> None:
    """Connect. Raises OSError."""
    folder = os.open(Path(path).parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        link.connect(f"/proc/self/fd/{folder}/{Path(path).name}")
    finally:
        os.close(folder)
