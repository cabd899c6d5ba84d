#!/usr/bin/env bash
# Build the guest image OUTDIR/{vmlinuz,initrd.gz,base.raw}: Debian 12 with systemd, BlueZ and a venv at
# /opt/patch-gateway/venv that holds third-party packages only; the product itself comes from the share on /src.
#
#   SITE=folder CACHE=folder tests/vm/mkimage.sh OUTDIR
#
# SITE: the packages (pip install --target). CACHE: downloads and the bare root file system are kept here.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=$(realpath -m "${1:?usage: mkimage.sh OUTDIR}")
site=$(realpath "$SITE")
cache=$(realpath -m "$CACHE")
# Not 6.1: its Bluetooth stack hits "BUG list_debug.c:56" when an LE connect ends with 0x3e.
kernel_package=linux-image-6.12-amd64
packages=base-files,base-passwd,bash,coreutils,dash,debianutils,diffutils,dpkg,findutils,grep,gzip,hostname
packages+=,init-system-helpers,libc-bin,login,ncurses-base,ncurses-bin,perl-base,sed,tar,util-linux,mount
packages+=,procps,usr-is-merged,systemd-sysv,libpam-systemd,libnss-systemd,udev,dbus,kmod,bluez,python3
packages+=,iproute2,iputils-ping,nftables,e2fsprogs,dmsetup,ca-certificates
modules=(virtio_pci virtio_blk virtio_console virtio_net virtio_rng ext4 9p 9pnet_virtio overlay loop
    bluetooth hci_vhci uhid algif_hash algif_skcipher cmac ecb ccm ecdh_generic
    dm-mod dm-flakey dm-delay dm-log-writes dm-snapshot dm-crypt veth dummy bridge tun
    sch_netem sch_tbf sch_htb nf_tables nft_ct nft_limit nft_reject nft_reject_inet nft_chain_nat)
initrd_modules=(virtio_pci virtio_blk virtio_console ext4)
masked=(systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
    e2scrub_reap.service fstrim.timer getty@tty1.service getty.target console-getty.service
    systemd-pstore.service systemd-update-utmp.service systemd-logind.service)

step() { # step NAME FUNCTION : run it and say how long it took
    local start=${EPOCHREALTIME/./}
    "$2"
    printf '  %-24s %6.1f s\n' "$1" "$(((${EPOCHREALTIME/./} - start) / 100000))e-1"
}

download() { # download PACKAGE : into the current folder
    apt-get --quiet=2 -o APT::Sandbox::User=root download "$1"
}

# The guest is built from the archives this machine itself uses.
archives() {
    local lines
    # shellcheck disable=SC2016 # apt replaces these
    lines=$(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Identifier: Packages' |
        sed -nE 's#^(\S+) (bookworm(-updates|-security)?)$#deb \1 \2 main#p' | sort -u)
    [ -n "$lines" ] || {
        echo "apt on this machine knows no Debian 12 archive" >&2
        return 1
    }
    echo "$lines"
}

# Proxy, CA and date settings of this machine's apt, as mmdebstrap options.
apt_settings() {
    apt-config dump |
        sed -nE 's/^(Acquire::(https?::(Proxy|CaInfo|CaPath)|Check-(Date|Valid-Until)) "[^"]+";)$/--aptopt=\1/p'
}

fetch_kernel() {
    local package
    package=$(apt-cache depends "$kernel_package" | awk '/Depends: linux-image-[0-9]/ {print $2; exit}')
    kernel=$cache/$package
    if [ ! -d "$kernel" ]; then
        rm -rf "$cache"/linux-image-* "$cache/new" && mkdir -p "$cache/new/root"
        (cd "$cache/new" && download "$package")
        dpkg-deb --fsys-tarfile "$cache"/new/*.deb | tar -x -C "$cache/new/root" ./boot ./lib
        depmod -b "$cache/new/root" "$(ls "$cache/new/root/lib/modules")"
        mv "$cache/new/root" "$kernel" && rm -rf "$cache/new"
    fi
    version=$(ls "$kernel/lib/modules")
    cp "$kernel/boot/vmlinuz-$version" vmlinuz
}

fetch_root() {
    local tar options
    archives >sources.list
    tar=$cache/root-$( (echo "$packages" && cat sources.list) | sha256sum | cut -c1-12).tar
    if [ ! -f "$tar" ]; then
        rm -f "$cache"/root-*
        mapfile -t options < <(apt_settings)
        mmdebstrap -q --format=tar --variant=custom --include="$packages" "${options[@]}" \
            --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
            --aptopt='APT::Install-Recommends "false"' bookworm "$tar.tmp" sources.list
        mv "$tar.tmp" "$tar"
    fi
    rm -rf root && mkdir root && tar -x -C root -f "$tar"
    rm -rf root/usr/share/{doc,man,locale,info,lintian}/* root/var/lib/apt/lists/* root/var/cache/apt/*
}

module_files() { # module_files NAME... : the .ko files of these modules and what they depend on, in load order
    for name in "$@"; do
        modprobe -d "$kernel" -S "$version" --show-depends "$name" 2>/dev/null || true # built in, or not in this kernel
    done | awk '/^insmod/ && !seen[$2]++ {print $2}'
}

copy_modules() {
    local target=root/lib/modules/$version
    mkdir -p "$target/kernel"
    cp "$kernel/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$target/"
    module_files "${modules[@]}" | while read -r ko; do
        install -D -m644 "$ko" "$target/kernel/${ko#*/kernel/}"
    done
    cp -a "$kernel/lib/modules/$version/kernel/crypto" "$target/kernel/"
    find "$target" -name '*.ko.xz' -exec xz -d -f {} +
    depmod -b root "$version"
}

unit() { # unit NAME < text
    cat >"root/etc/systemd/system/$1.service"
}

configure() {
    echo gateway >root/etc/hostname
    echo '127.0.0.1 localhost gateway' >root/etc/hosts
    echo 'nameserver 10.0.2.3' >root/etc/resolv.conf
    cat >root/etc/fstab <<'FSTAB'
/dev/root / ext4 rw,noatime 0 1
src /src 9p trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose 0 0
FSTAB
    mkdir root/src
    # Not loaded by themselves; bluetooth.service has a condition on /sys/class/bluetooth.
    printf '%s\n' virtio_net 9p 9pnet_virtio hci_vhci >root/etc/modules-load.d/rig.conf
    : >root/etc/machine-id
    printf '[Journal]\nStorage=volatile\n' >root/etc/systemd/journald.conf
    install -m755 "$here/guest_agent.py" root/usr/local/sbin/guest-agent
    install -m755 "$here/hci_bridge.py" root/usr/local/sbin/hci-bridge
    unit guest-agent <<'UNIT'
[Unit]
Description=run commands for the test process
DefaultDependencies=no
After=sysinit.target dbus.socket
Conflicts=shutdown.target
Before=shutdown.target
[Service]
ExecStart=/usr/bin/python3 -I -S /usr/local/sbin/guest-agent
Restart=always
KillMode=process
OOMScoreAdjust=-900
[Install]
WantedBy=sysinit.target
UNIT
    unit hci-bridge <<'UNIT'
[Unit]
Description=Bluetooth adapter whose radio is the test process
[Service]
ExecStart=/usr/bin/python3 -I -S /usr/local/sbin/hci-bridge
UNIT
    unit eth0 <<'UNIT'
[Unit]
Description=qemu's user network: the host is 10.0.2.2
Wants=network.target
Before=network.target network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2'
[Install]
WantedBy=multi-user.target
UNIT
    chroot root systemctl -q enable guest-agent.service eth0.service 2>/dev/null
    chroot root systemctl -q mask "${masked[@]}" 2>/dev/null
}

make_venv() {
    local venv=/opt/patch-gateway/venv
    chroot root /usr/bin/python3 -m venv --without-pip "$venv"
    cp -a "$site/." root$venv/lib/python3.11/site-packages/
    echo /src >root$venv/lib/python3.11/site-packages/patch_gateway.pth
    # Bytecode made here, by the guest's own interpreter: its emulated CPU is too slow for it.
    chroot root $venv/bin/python -m compileall -q $venv/lib
    cat >root$venv/bin/patch-gateway <<'SCRIPT'
#!/opt/patch-gateway/venv/bin/python
import sys
from agent.cli import main
sys.exit(main())
SCRIPT
    chmod 755 root$venv/bin/patch-gateway
}

make_initrd() {
    if [ ! -f "$cache/busybox" ]; then
        (cd "$cache" && download busybox-static && dpkg -x busybox-static_*.deb unpacked)
        mv "$cache/unpacked/bin/busybox" "$cache/busybox"
        rm -rf "$cache"/unpacked "$cache"/busybox-static_*.deb
    fi
    mkdir -p initrd/{bin,modules,proc,sys,dev,new}
    cp "$cache/busybox" initrd/bin/
    module_files "${initrd_modules[@]}" | while read -r ko; do
        cp "$ko" initrd/modules/
        basename "${ko%.xz}" >>initrd/order
    done
    find initrd/modules -name '*.xz' -exec xz -d {} +
    cat >initrd/init <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc p /proc; $b mount -t sysfs s /sys; $b mount -t devtmpfs d /dev
for m in $($b cat /order); do $b insmod /modules/$m; done
$b mount -t ext4 -o rw,noatime /dev/vda /new && exec $b switch_root /new /sbin/init
exec $b sh
INIT
    chmod +x initrd/init
    (cd initrd && find . | cpio -o -H newc --quiet | gzip -1 >../initrd.gz)
}

make_disk() {
    mke2fs -q -t ext4 -d root base.raw "$(($(du -sm root | cut -f1) * 13 / 10 + 256))M" >/dev/null
    rm -rf root initrd sources.list
}

mkdir -p "$out" "$cache" && cd "$out"
apt-get --quiet=2 update
step kernel fetch_kernel
step "root file system" fetch_root
step modules copy_modules
step configuration configure
step venv make_venv
step initrd make_initrd
step disk make_disk
