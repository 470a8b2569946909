#!/bin/bash
# What an instance of the public workshop does at its first boot, as user data: everything is installed there
# and then. The yardstick of boot.baked_over_install; beyond the workshop, the environment is a lock's.
# Usage: workshop_userdata.sh [STAGE...], by default all of them, in this order.
set -euo pipefail

stages=(update driver module nfs environment app start)
lock=${LOCK:-/root/monai-label.lock}
venv=${VENV:-/opt/workshop/venv}
home=${WORKSHOP:-/opt/workshop}
port=${PORT:-8000}

install() {
    # shellcheck disable=SC2086  # words
    apt-get -qq -y --no-install-recommends ${APT_OPTIONS:-} install "$@"
}

update() { apt-get -qq update; }

# Headers first: without them DKMS compiles nothing, and apt does not mind.
driver() {
    install linux-headers-cloud-amd64
    install nvidia-kernel-dkms nvidia-kernel-support firmware-nvidia-gsp nvidia-smi libcuda1 nvidia-persistenced
}

module() { dkms status | grep '^nvidia.*: installed'; }

nfs() { install nfs-common; }

environment() {
    install python3-venv
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --no-cache-dir --no-deps --require-hashes --requirement "$lock"
}

app() {
    mkdir -p "$home/studies"
    "$venv/bin/python" -m monailabel.main apps --download --name radiology --output "$home/apps"
}

start() {
    systemd-run --quiet --unit=workshop --property=WorkingDirectory="$home" \
        "$venv/bin/python" -m monailabel.main start_server --app "$home/apps/radiology" \
        --studies "$home/studies" --host 127.0.0.1 --port "$port" \
        --conf models segmentation_spleen --conf use_pretrained_model false --conf sam2 false
}

for stage in "${@:-${stages[@]}}"; do
    echo "== $stage"
    "$stage"
done
