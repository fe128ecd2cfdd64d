#!/bin/sh
# Print a Python that can run this project: the one given, or else the first good one on the PATH.
# A name on the PATH proves nothing (pyenv keeps shims of versions that are switched off), so each is run.
set -u

good='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'
if [ -n "${1:-}" ]; then candidates=$1; else candidates="python3.11 python3.12 python3"; fi

for candidate in $candidates; do
    if "$candidate" -c "$good" >/dev/null 2>&1; then
        command -v "$candidate"
        exit 0
    fi
done

echo "error: twotower needs Python 3.11 or 3.12 with its venv module. Found:" >&2
for candidate in $candidates; do
    found=$("$candidate" -c 'import sys; print(sys.version.split()[0])' 2>/dev/null) || found="does not run"
    echo "    $candidate: $found" >&2
done
echo "Python 3.10 is refused because numpy 2.4 and pandas 3 dropped it, 3.13 because TensorFlow with Beam is untested there." >&2
echo "Cure: make install PYTHON=/path/to/python3.11   (on Debian also: apt-get install python3.11-venv)" >&2
exit 2
