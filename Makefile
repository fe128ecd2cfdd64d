# make demo | make test | make serve | make lint | make lock. Everything installs itself, into .venv.
.PHONY: help install demo serve test test-flink test-distribute lint lock docs

# An environment may carry PYTHON=...; `make install PYTHON=python3.12` chooses one.
PYTHON ?=
CONFIG ?= configs/demo.yaml

help:
	@echo "make demo     generate demo logs, run every stage, and ask the result two questions"
	@echo "make serve    serve the bundle of \$$(CONFIG), default configs/demo.yaml, over HTTP"
	@echo "make test     install and run the tests"
	@echo "make test-flink  fetch Flink (Java 11 or 17 and Maven), and run the Beam jobs on it"
	@echo "make test-distribute  train on two devices and on clusters of processes (minutes)"
	@echo "make lint     ruff and mypy"
	@echo "make docs     write docs/configuration.md from pipeline/config.py"
	@echo "make install  only install; PYTHON=python3.12 chooses the Python (3.11 or 3.12)"
	@echo "make lock     resolve requirements.lock anew from the ranges in setup.py"

install:
	@scripts/install.sh "$(PYTHON)"

demo: install
	@scripts/demo.sh

serve: install
	.venv/bin/twotower serve --config $(CONFIG)

test: install
	.venv/bin/pytest

test-flink: install
	scripts/fetch_flink.sh
	.venv/bin/pytest -m flink tests/test_flink.py

test-distribute: install
	.venv/bin/pytest -m distribute tests/test_cluster.py tests/test_two_devices.py

lint: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

lock: install
	UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/bin/uv pip compile setup.py --extra dev --python-version 3.11 \
	    --no-annotate --no-emit-index-url --upgrade --quiet --output-file requirements.lock

docs: install
	.venv/bin/python scripts/config_reference.py
