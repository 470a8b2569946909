#!/usr/bin/env bash
# Installs what kiln needs on this machine, and nothing that is there already. Silent when all is there.
#
# Debian packages come from the machine's own apt sources, Python packages by hash from the locks into
# .venv. Which mirrors, proxies and certificates are used is the machine's business.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Each package, and what it is for.
packages=(
    ca-certificates            # https, here and lent to the build
    containernetworking-plugins # podman asks for a network stack, though we use the host's
    debian-archive-keyring     # mmdebstrap trusts the archive by it
    dosfstools                 # the EFI partition
    e2fsprogs                  # the root file system, made without a mount
    genimage                   # the partition table, and the whole disk
    grub-common                # grub-mkimage
    grub-efi-amd64-bin         # its modules
    mmdebstrap                 # the base root
    mtools                     # files into the EFI partition, without a mount
    nginx                      # the gateway's tests
    openssh-client             # the live checks
    ovmf                       # UEFI for QEMU
    packer                     # the build
    podman                     # the build's container
    python3-venv               # .venv
    qemu-system-x86            # the boot
    qemu-utils                 # qemu-img
    runc                       # runs containers also where cgroups are old
    shellcheck                 # make lint
    xorriso                    # the seed that cloud-init reads
)

log=build/logs/setup.log

say() {
    printf 'setup: %s\n' "$1" >&2
}

# fail WHAT FIX [CODE]
fail() {
    printf 'error: %s\n  fix: %s\n' "$1" "$2" >&2
    exit "${3:-1}"
}

# Runs a command whose words only matter when it fails.
logged() {
    local what=$1
    shift
    printf '\n$ %s\n' "$*" >>"$log"
    if ! "$@" >>"$log" 2>&1; then
        tail -n 8 "$log" >&2
        fail "$what failed" "see $PWD/$log, then run make again"
    fi
}

check_system() {
    local release=${KILN_OS_RELEASE:-/etc/os-release} name
    # A subshell, so that the file's variables stay out of ours.
    # shellcheck source=/dev/null
    name=$(. "$release" 2>/dev/null && printf '%s %s' "${ID:-unknown}" "${VERSION_ID:-}") || name=unknown
    [ "$name" = "debian 12" ] ||
        fail "this machine runs ${name% }; kiln is made for Debian 12" "use a Debian 12 machine or container" 2
    [ "$(uname -m)" = x86_64 ] ||
        fail "this machine is $(uname -m); kiln bakes for x86_64" "use an x86_64 machine" 2
}

install_packages() {
    local missing as_root=()
    missing=$(comm -13 <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null |
        sed -n 's/^installed //p' | sort -u) <(printf '%s\n' "${packages[@]}" | sort -u))
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            fail "these Debian packages are missing: ${missing//$'\n'/ }" "run make as root, or install sudo"
        as_root=(sudo)
    fi
    say "installing Debian packages: ${missing//$'\n'/ }"
    as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    logged "apt-get update" "${as_root[@]}" update
    # shellcheck disable=SC2086  # a list of words
    logged "apt-get install" "${as_root[@]}" install -y --no-install-recommends $missing
}

# uv reads no settings of pip's: what this machine's pip is set to counts for both.
lend_pip_settings() {
    local index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-}}}
    [ -n "$index" ] || index=$(.venv/bin/python -m pip config list |
        sed -n "s/^\(global\|install\)\.index-url='\(.*\)'\$/\2/p" | tail -n 1)
    [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
    [ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"
}

install_python() {
    local stamp=.venv/.kiln-setup state
    state=$({ pwd && cat scripts/setup.sh pyproject.toml requirements/*.lock; } | sha256sum)
    if [ -x .venv/bin/kiln ] && [ "$(cat "$stamp" 2>/dev/null)" = "$state" ]; then
        return 0
    fi
    if ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        say "making .venv with $(/usr/bin/python3 --version)"
        logged "making .venv" /usr/bin/python3 -m venv --clear .venv
    fi
    rm -f "$stamp"
    say "installing Python packages from requirements/*.lock into .venv"
    logged "installing uv" .venv/bin/python -m pip install --require-hashes -r requirements/uv.lock
    lend_pip_settings
    # sync takes exactly what the locks name, also monailabel without its server's dependencies.
    logged "installing the locks" .venv/bin/uv pip sync --python .venv/bin/python --require-hashes \
        requirements/dev.lock requirements/client.lock
    logged "installing kiln" .venv/bin/uv pip install --python .venv/bin/python --no-deps --editable .
    printf '%s\n' "$state" >"$stamp"
    say "done"
}

check_system
mkdir -p "$(dirname "$log")"
# Two makes at once must not install into the same .venv.
exec 9<"scripts/setup.sh"
flock 9
install_packages
install_python
