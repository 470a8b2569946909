#!/bin/sh
# The bare mount point is sealed whatever the settings say. Without any the studies are local: this is all a boot pays.
mkdir -p "$1/sysinit.target.wants"
ln -s /etc/systemd/system/kiln-efs-point.service "$1/sysinit.target.wants/"
[ -e "${KILN_EFS_SETTINGS:-/etc/kiln/efs.env}" ] || exit 0
exec /usr/local/sbin/kiln-efs generate "$1"
