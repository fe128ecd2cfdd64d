"""The peers, duckdb and polars, in an environment of their own under work/, made when it is not there."""

import subprocess
import venv

from benchmarks.measure import ROOT

FOLDER = ROOT / "work" / "peers"
PYTHON = FOLDER / "bin" / "python"
PINS = ["duckdb==2.0.0", "polars==2.1.0"]
NAMES = ["duckdb", "polars"]
_INSTALLED = FOLDER / "installed"


def installed() -> bool:
    """Is the environment there, with these versions?"""
    return _INSTALLED.is_file() and _INSTALLED.read_text(encoding="utf-8").split() == PINS


def install() -> None:
    """Make the environment unless it is there. Raises CalledProcessError when pip cannot install."""
    if installed():
        return
    venv.create(FOLDER, clear=True, with_pip=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *PINS], check=True)
    _INSTALLED.write_text("\n".join(PINS), encoding="utf-8")
