#!/bin/sh
# Installs archiver from this medium, without a network:
#
#     sh tools/install.sh [DIR]
#
# DIR is a new folder; ~/archiver if none is named. Nothing is written anywhere else.
# It looks for a Python, and lets install.py, beside this file, do the rest.
here=$(dirname -- "$0")
for python in python3 python3.11 python3.12 python3.13 python3.14 python3.15 python; do
    if "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1; then
        exec "$python" -I -B "$here/install.py" "$@"
    fi
done
echo "install.sh: There is no Python on this machine: none of python3, python3.11 … python3.15 runs." >&2
echo "Install Python 3.11 or newer from this system's own packages. Nothing was changed." >&2
exit 2
