#!/bin/sh
# What an image builder is: a line a fact, its name and its value between tabs. kiln reads it before the builder
# becomes an image, since nobody sees the disk afterwards.
set -eu
# shellcheck source=/dev/null
. /etc/os-release
printf 'system\t%s\t%s\n' "$ID" "$VERSION_ID"
printf 'kernel\t%s\t\n' "$(uname -r)"
if command -v python3 >/dev/null; then
    printf 'python\t%s\t\n' "$(python3 -c 'import platform; print(platform.python_version())')"
fi
if command -v rpm >/dev/null && [ "$ID" != debian ] && [ "$ID" != ubuntu ]; then
    rpm --query --all --queryformat 'package\t%{NAME}\t%{VERSION}-%{RELEASE}\n'
else
    dpkg-query --show --showformat 'package\t${Package}\t${Version}\n'
fi
