"""Our server over a bundle, with another index in place of its own, or with its own at another depth.

    python -m benchmarks.peer_server BUNDLE NAME DEPTH FOLDER SETTINGS

NAME: of benchmarks/peer_indexes.py, or `ours`; FOLDER holds a peer's index over the bundle's vectors. SETTINGS: of the
server, as JSON.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from benchmarks.peer_indexes import PEERS, PeerShard, deepen_ours, use_environment
from pipeline.config_serve import ServeConfig
from serving.app import serve
from serving.index import ItemIndex
from serving.retriever import Retriever
from serving.served import Served


def exchange(served: Served, name: str, depth: int, folder: Path) -> Served:
    """The same bundle with a peer's index, or with its own at the depth."""
    bundle = served.retriever.bundle
    if name == "ours":
        deepen_ours(bundle.index, depth)
        return served
    vectors = bundle.index.vectors
    opened = PEERS[name].open(folder, *vectors.shape)
    opened.deepen(depth)
    index = ItemIndex([PeerShard(opened, vectors)], vectors, bundle.index.norms)
    return replace(served, retriever=Retriever(replace(bundle, index=index)))


def install(name: str, depth: int, folder: Path) -> None:
    """Have every bundle that is opened from now on in this process be exchanged."""
    opened = Served.open
    if name != "ours":
        use_environment()
    cast(Any, Served).open = lambda *how: exchange(opened(*how), name, depth, folder)


if __name__ == "__mp_main__":  # in the worker, which imports this module as its parent's
    install(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))

if __name__ == "__main__":
    serve(sys.argv[1], ServeConfig(**json.loads(sys.argv[5])))
