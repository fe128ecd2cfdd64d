#!/bin/sh
# The whole pipeline on generated logs, then one question for a user and one for an item.
set -eu
cd "$(dirname "$0")/.."
config=configs/demo.yaml

.venv/bin/twotower run --config "$config"
.venv/bin/twotower query --config "$config" --user u0001
.venv/bin/twotower query --config "$config" --item i0007
echo "make serve puts this bundle behind HTTP; then open http://127.0.0.1:8000/ in a browser"
