"""The raw loop behind a bare socket: what any server of one process would take for one client after another.

    python -m benchmarks.bare_server BUNDLE --k 500

Whatever arrives on a connection is taken for one request, and answered with the next answer of the raw loop
(benchmarks/raw_loop.py). Prints its URL, and serves until it is terminated.
"""

import argparse
import asyncio
import itertools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import uvloop

from benchmarks.raw_loop import WARM, raw
from serving.bundle import Bundle


class Bare(asyncio.Protocol):
    """Reads no HTTP, but answers with it."""

    def __init__(self, calls: Iterator[Callable[[], Any]]) -> None:
        self._calls = calls

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        content = next(self._calls)()
        self._transport.writelines((b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(content), content))


async def serve(bundle: str, k: int) -> None:
    """Until SIGTERM."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    calls = raw(Bundle.open(bundle), k)
    for call in calls[:WARM]:
        call()
    turns = itertools.cycle(calls)
    server = await loop.create_server(lambda: Bare(turns), "127.0.0.1", 0)
    loop.add_signal_handler(signal.SIGTERM, done.set)
    print(f"Serving {bundle} at http://127.0.0.1:{server.sockets[0].getsockname()[1]} bare", flush=True)
    await done.wait()


def main() -> None:
    """Serve a bundle barely."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--k", type=int, default=500)
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.bundle, arguments.k))


if __name__ == "__main__":
    main()
