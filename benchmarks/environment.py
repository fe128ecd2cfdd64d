"""An environment of its own for a peer, made under work/ when it is not there."""

import subprocess
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """A folder and the pinned packages in it."""

    folder: Path
    pins: Sequence[str]

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def installed(self) -> bool:
        """Is the environment there, with these versions?"""
        mark = self.folder / "installed"
        return mark.is_file() and mark.read_text(encoding="utf-8").split() == list(self.pins)

    def install(self) -> None:
        """Make the environment unless it is there. Raises CalledProcessError when pip cannot install."""
        if self.installed():
            return
        venv.create(self.folder, clear=True, with_pip=True)
        subprocess.run([self.python, "-m", "pip", "install", "--quiet", *self.pins], check=True)
        (self.folder / "installed").write_text("\n".join(self.pins), encoding="utf-8")
