"""An S3 server of the tests' own, in a process of its own, so that clients talk to it as to any other."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_s3(log: Path) -> Iterator[str]:
    """The URL of a server on a free port of this machine; it forgets everything at the end."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("w") as stream, subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT) as process:
        try:
            yield _address(log, process)
        finally:
            process.terminate()


def _address(log: Path, process: subprocess.Popen) -> str:
    while process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        time.sleep(0.05)
    raise RuntimeError(f"the S3 server did not start: {log.read_text()}")


def environment(url: str, cache: Path) -> dict[str, str]:
    """What tells S3 clients and the pipeline where the server is, who asks, and where copies go."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TWOTOWER_CACHE": str(cache),
    }
