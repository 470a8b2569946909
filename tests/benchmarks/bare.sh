#!/bin/bash
# What the bake's Packer and Ansible do, as a bare script in a chroot: the yardstick of bake.full_over_bare.
# Usage: bare.sh ROOT SETTINGS LISTS ARCHIVES UV PACKAGES PAYLOAD APP MODELS SEED; under unshare --mount,
# environment lent. PACKAGES are words, MODELS have commas between them.
set -euo pipefail
root=$1 settings=$2 lists=$3 archives=$4 uv=$5 packages=$6 payload=$7 app=$8 models=$9 seed=${10}
opt=/opt/monai-label home=/var/lib/monai-label

mount -t proc proc "$root/proc"
mount --bind /sys "$root/sys"
mount -t tmpfs run "$root/run"
mount -t tmpfs tmp "$root/tmp"
mount --bind /dev "$root/dev"
mkdir "$root/run/kiln-build"
mount --bind "$settings" "$root/run/kiln-build"
mount --bind "$lists" "$root/run/kiln-build/lists"
mount --bind "$archives" "$root/run/kiln-build/archives"
mount --bind "$uv" "$root/run/kiln-build/uv"
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

inside() { chroot "$root" "$@"; }
service() {
    inside setpriv --reuid=10001 --regid=10001 --clear-groups -- env HOME=$home XDG_CACHE_HOME=$home/cache \
        MPLCONFIGDIR=$home/cache/matplotlib "$@"
}

shopt -s nullglob
debs=("$settings"/*.deb)
# shellcheck disable=SC2086  # a list of words
inside env INITRD=No apt-get -qq -o Dpkg::Options::=--force-unsafe-io --no-install-recommends -y install \
    $packages "${debs[@]/#"$settings"//run/kiln-build}" >/dev/null

# Accounts and the files that the roles write.
inside groupadd --gid 10001 monai-label
inside useradd --uid 10001 --gid 10001 --home-dir $home --no-create-home --shell /usr/sbin/nologin monai-label
tar --extract --directory="$root" --file="$payload"

# A link by now, or empty, as in the image.
rm -f "$root/etc/resolv.conf"
cp /etc/resolv.conf "$root/etc/resolv.conf"

# The environment, from the same locks and the same caches.
inside python3 -m venv $opt/setup
cp "$settings/rest.txt" "$settings/monailabel.txt" "$settings/uv.txt" "$root$opt/setup/"
inside $opt/setup/bin/pip install -q --no-deps --require-hashes -r $opt/setup/uv.txt
inside python3 -m venv --clear --without-pip $opt/venv
inside $opt/setup/bin/uv pip install -q --python $opt/venv --no-deps --require-hashes -r $opt/setup/rest.txt
inside $opt/setup/bin/pip --python $opt/venv/bin/python install -q --no-deps --no-compile --require-hashes \
    -r $opt/setup/monailabel.txt
shopt -s globstar
while read -r glob; do
    # shellcheck disable=SC2086  # a glob
    rm -rf "$root$opt"/venv/lib/python3*/site-packages/$glob
done <"$settings/left-out"
inside $opt/venv/bin/python -m compileall -qq -f -j2 --invalidation-mode unchecked-hash $opt/venv/lib
rm -rf "${root:?}$opt/setup" "$root$opt/venv/.lock"
cp "$settings/installed.lock" "$root$opt/venv/installed.lock"

# The app, its weights and caches.
service cp --recursive $opt/venv/monailabel/sample-apps/"$app" $home/apps/
inside install -d -o monai-label -g monai-label -m 750 "$home/apps/$app/model"
service $opt/venv/bin/python $opt/kiln_prepare.py "--app=$home/apps/$app" "--models=$models" \
    --weights=random "--seed=$seed" --environment=/etc/kiln/monai-label.env \
    "--within=$opt,$home/apps,$home/cache" "--done=$(cat "$settings/prepared")" >"$root$opt/readahead.list"

# Clean.
umount --recursive "$root/run"
: >"$root/etc/resolv.conf"
rm -f "$root/usr/sbin/policy-rc.d"
# shellcheck disable=SC2046
(cd "$root" && rm -rf $(cat "$settings/absent"))
find "$root/var/log" -type f -exec truncate -s 0 {} +
