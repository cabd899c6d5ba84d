#!/bin/sh
# Renew the lock files: every dependency with its hashes, for Linux on x86_64 and aarch64, Python 3.11 and newer.
set -eu
uv=.venv/bin/uv
compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
        --no-annotate --upgrade "$@"
}
compile pyproject.toml -o requirements.txt
compile pyproject.toml --extra central -c requirements.txt -o requirements-central.txt
compile pyproject.toml --extra central --extra demo --extra dev .ci/build.in -c requirements-central.txt -o requirements-dev.txt
compile pyproject.toml --extra fuzz -c requirements-dev.txt -o requirements-fuzz.txt
