"""The errors a user can cause, each with the exit code the command line gives it."""

import difflib
from collections.abc import Iterable


class TwoTowerError(Exception):
    """Base of every error whose message is meant for the user: what is wrong, where, and the cure."""

    exit_code = 1


class ConfigError(TwoTowerError):
    """A setting is unknown, of the wrong type, or impossible."""

    exit_code = 2


class InputError(TwoTowerError):
    """An input file is not what it says it is."""

    exit_code = 3


class ArtifactError(TwoTowerError):
    """An artefact is missing, of another format version, truncated or altered."""

    exit_code = 4


class StorageError(TwoTowerError):
    """An object store cannot be reached, or does not let us in."""


class TrainingError(TwoTowerError):
    """Training cannot go on, for instance because there is no room for a checkpoint."""


class DivergedError(TrainingError):
    """The loss is no longer finite."""


class TrainingInterruptedError(TwoTowerError):
    """Training was asked to stop, and has: exit_code is 128 + the number of the signal."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RequestError(TwoTowerError):
    """A request names something the bundle does not know, or asks for the impossible."""

    exit_code = 5


class JobError(TwoTowerError):
    """A Beam job failed on its runner."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean `x`?' for the known name closest to `name`, or '' when none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean `{matches[0]}`?" if matches else ""
