"""Checks a bundle in a process of its own: checksums and exact scans of a large one would hold up every request.

In a thread they would, for it takes the interpreter's lock again and again; and a thread of lower priority that holds
the lock does not give it back before it gets the processor.
"""

import asyncio
import os
import sys

from pipeline.errors import ArtifactError, TwoTowerError
from pipeline.storage import Location
from serving.bundle import Bundle

NICE = 10
"""Answers go before, about ten to one where processors are scarce."""
REFUSED = 3
"""What the process returns when something is wrong with the bundle."""


async def check(path: Location) -> None:
    """Open the published bundle as Bundle.open does, elsewhere. Raises ArtifactError."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serving.check", str(path)),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        told, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        raise
    if process.returncode == REFUSED:
        raise ArtifactError(told.decode(errors="replace").strip())
    if process.returncode:
        raise ArtifactError(f"the check of {path} ended with {process.returncode}")


def main(path: str) -> int:
    """Returns the exit code, and prints what is wrong."""
    os.nice(NICE)
    try:
        Bundle.open(path)
    except TwoTowerError as error:
        print(error)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
