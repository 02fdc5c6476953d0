"""A TCP forwarder with one or several targets in turn: stands in for what a cluster network does for a Service.

With `--netns` it listens inside that network namespace and connects outside of it: the only way in or out of the hosts' network.
Run as its own process; knows nothing of what it carries.
"""

import argparse
import asyncio
import contextlib
import ctypes
import itertools
import os
import socket
from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def inside(netns: str | None) -> Iterator[None]:
    """Be in a network namespace for a moment; sockets made there stay there."""
    if netns is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    home, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(netns, os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot enter the network namespace", netns)
        try:
            yield
        finally:
            if libc.setns(home, _CLONE_NEWNET):
                os._exit(70)  # half in, half out: nothing good can follow
    finally:
        os.close(home)
        os.close(there)


class Forwarder:
    """Connects every incoming connection to the next target that answers."""

    def __init__(self, targets: list[tuple[str, int]]) -> None:
        self._targets = targets
        self._turn = itertools.count()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from its first byte to its last."""
        onward = await self._connect()
        if onward is not None:
            await asyncio.gather(_pump(reader, onward[1]), _pump(onward[0], writer))
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        first = next(self._turn)
        for step in range(len(self._targets)):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(*self._targets[(first + step) % len(self._targets)])
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


async def _serve(listener: socket.socket, targets: list[tuple[str, int]]) -> None:
    server = await asyncio.start_server(Forwarder(targets).carry, sock=listener)
    await server.serve_forever()


def main() -> None:
    """`python -m quorate_local.forward --listen A:P --to A:P [--to A:P] [--netns /proc/PID/ns/net]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", type=_endpoint, required=True)
    parser.add_argument("--to", type=_endpoint, action="append", required=True)
    parser.add_argument("--netns")
    options = parser.parse_args()
    with inside(options.netns):
        listener = socket.create_server(options.listen, backlog=512)
    asyncio.run(_serve(listener, options.to))


if __name__ == "__main__":
    main()
