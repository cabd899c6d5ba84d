#!/bin/sh
# Runs once in the guest, before the snapshot: the machine as docs/deployment.md sets it up.
set -eu
cd /src/systemd

install -m 644 sysusers.conf /usr/lib/sysusers.d/patch-gateway.conf
systemd-sysusers
install -m 644 patch-gateway.service /etc/systemd/system/
install -m 644 -D bluetooth.service.d/patch-gateway.conf /etc/systemd/system/bluetooth.service.d/patch-gateway.conf
cat bluetooth-main.conf >>/etc/bluetooth/main.conf
install -d -m 700 /etc/credstore.encrypted
head -c 32 /dev/urandom | systemd-creds encrypt --name=kek - /etc/credstore.encrypted/patch-gateway.kek
install -d -m 755 /etc/patch-gateway
systemctl daemon-reload
systemctl restart bluetooth
