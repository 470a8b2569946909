#!/bin/bash
# Makes the plain root of image.bytes_over_plain, inside its container: packages, driver by DKMS, environment.
# Usage: plain.sh FOLDER; it holds packages, sources, rest.txt, monailabel.txt and uv.txt.
set -euo pipefail
settings=$1
opt=/opt/monai-label

install() {
    apt-get -qq -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io install "$@" >/dev/null
}

# Headers first, or DKMS compiles nothing and apt does not mind.
mapfile -t packages <"$settings/packages"
mapfile -t sources <"$settings/sources"
INITRD=No install "${packages[@]}"
install "${sources[@]}"
dkms status | grep '^nvidia.*: installed'

# By uv, as the image's: what pip alone would leave is the same files, minutes later.
python3 -m venv $opt/setup
$opt/setup/bin/pip install -q --no-deps --require-hashes -r "$settings/uv.txt"
python3 -m venv --without-pip $opt/venv
$opt/setup/bin/uv pip install -q --python $opt/venv --no-deps --require-hashes -r "$settings/rest.txt"
$opt/setup/bin/pip --python $opt/venv/bin/python install -q --no-deps --no-compile --require-hashes \
    -r "$settings/monailabel.txt"
$opt/venv/bin/python -m compileall -qq -f -j 0 --invalidation-mode unchecked-hash $opt/venv/lib
rm -rf $opt/setup
