"""The peers of the Beam jobs, duckdb and polars, in an environment of their own, made when it is not there."""

from benchmarks.environment import Environment
from benchmarks.measure import ROOT

NAMES = ["duckdb", "polars"]
_ENVIRONMENT = Environment(ROOT / "work" / "peers", ["duckdb==2.0.0", "polars==2.1.0"])
PYTHON = _ENVIRONMENT.python
installed, install = _ENVIRONMENT.installed, _ENVIRONMENT.install
