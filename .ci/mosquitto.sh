#!/bin/sh
# A Mosquitto for the demo and the tests: the installed one; else installed as root; else its Debian packages
# downloaded and unpacked into .venv/mosquitto.
set -eu

[ -x /usr/sbin/mosquitto ] || command -v mosquitto >/dev/null && exit 0
[ -x .venv/mosquitto/usr/sbin/mosquitto ] && exit 0

give_up() {
    echo "No Mosquitto here ($1): install it with 'sudo apt-get install mosquitto', then try again." >&2
    exit 1
}

command -v apt-get >/dev/null || give_up "and no apt-get to install it with"
if [ "$(id -u)" = 0 ]; then
    echo "Installing Mosquitto ..." >&2
    .ci/debian.sh mosquitto
    [ -x /usr/sbin/mosquitto ] || give_up "apt-get could not install it"
    exit 0
fi

echo "Downloading Mosquitto's Debian packages into .venv/mosquitto ..." >&2
packages=$(apt-get --simulate --no-install-recommends install mosquitto 2>/dev/null | awk '/^Inst / { print $2 }')
[ -n "$packages" ] || give_up "apt-get does not know the package; 'sudo apt-get update' may help"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# shellcheck disable=SC2086 # a list of package names
(cd "$folder" && apt-get --quiet=2 download $packages) || give_up "its packages could not be downloaded"
for package in "$folder"/*.deb; do
    dpkg-deb --extract "$package" .venv/mosquitto
done
[ -x .venv/mosquitto/usr/sbin/mosquitto ] || give_up "its packages hold no broker"
