#!/bin/sh
# Install Debian packages where this is root and they are missing; elsewhere the tests that need them say so and skip.
set -eu

missing=
for package in "$@"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed' ||
        missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of package names
apt-get --quiet=2 --no-install-recommends install $missing >/dev/null 2>&1 || {
    apt-get --quiet=2 update >/dev/null &&
        apt-get --quiet=2 --no-install-recommends install $missing >/dev/null || {
        echo "apt-get could not install:$missing" >&2
        exit 0
    }
}
