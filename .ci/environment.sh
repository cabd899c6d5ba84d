#!/bin/sh
# Make .venv from the locked dependencies. Says how large the download is before it begins.
set -eu
python=$1

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "patch-gateway needs Python 3.11 or newer; $python is $("$python" -V 2>&1)." >&2
    exit 1
}
"$python" -c 'import ensurepip, venv' 2>/dev/null || {
    echo "Python lacks venv here: install it with 'sudo apt-get install python3-venv', then try again." >&2
    exit 1
}
# A half-made environment must not look finished to make.
trap 'status=$?; [ $status = 0 ] || [ ! -d .venv ] || touch -d @0 .venv; exit $status' EXIT
[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "Installing the locked dependencies into .venv. Where they are not cached this downloads about 360 MB;" >&2
echo "unpacked they take about 1.3 GB (PostgreSQL and ClickHouse among them)." >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-dev.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
