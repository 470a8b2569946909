"""NVIDIA's driver: there for the image's kernel, held with it, and without what it was compiled with.

That its parts go together, by version and kernel, is what test_compat.py asks of the files themselves.
"""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

from tests.image.tree import Tree, settings, shown, unit

MODULES = ("", "-uvm")
"""What follows ``nvidia`` in the names of the modules without which CUDA does not start."""

KERNEL = re.compile(r"/usr/lib/modules/[^/]+")
HELD = re.compile(r"linux-image-.*|.*nvidia.*|libcuda.*")
BUILD_TOOLS = (
    "dkms", "dpkg-dev", "make", "gcc", "gcc-*", "cpp", "cpp-*", "binutils",
    "linux-headers-*", "linux-kbuild-*", "linux-compiler-*", "nvidia-kernel-dkms", "nvidia-open-kernel-dkms",
)  # fmt: skip
DROP_IN = "/etc/systemd/system/nvidia-persistenced.service.d/10-kiln.conf"
COMPONENTS = {"contrib", "non-free", "non-free-firmware"}


@pytest.fixture(scope="module")
def kernel(tree: Tree) -> str:
    """The kernel that is booted."""
    found = tree.matching("/boot/vmlinuz-*")
    assert found, "the image has no kernel"
    return found[-1].removeprefix("/boot/vmlinuz-")


def test_the_one_kernel_has_its_modules(host: Host, tree: Tree, kernel: str) -> None:
    kernels = [path for path, entry in tree.entries.items() if KERNEL.fullmatch(path) and entry.kind == "d"]
    assert kernels == [f"/usr/lib/modules/{kernel}"], (
        f"which kernel has the driver is a guess, {kernel} is booted: {shown(kernels)}"
    )
    listed = host.file(f"/usr/lib/modules/{kernel}/modules.dep").content_string
    # Debian calls it nvidia-current, NVIDIA nvidia.
    missing = [name for name in MODULES if not re.search(rf"/nvidia(-current)?{name}\.ko[.\w]*:", listed)]
    assert not missing, f"depmod knows no module {shown(f'nvidia{name}' for name in missing)} for {kernel}"
    files = re.findall(r"^(\S*/nvidia\S*):", listed, re.MULTILINE)
    gone = [path for path in files if f"/usr/lib/modules/{kernel}/{path}" not in tree]
    assert not gone, f"modules that depmod knows are missing: {shown(gone)}"


def test_cuda_is_found_by_the_loader(host: Host, tree: Tree) -> None:
    found = re.findall(r"libcuda\.so\.1 .*=> (\S+)", host.run("/sbin/ldconfig --print-cache").stdout)
    assert found, "the loader does not know libcuda.so.1"
    target = host.run("readlink --canonicalize %s", found[0]).stdout.strip()
    assert target in tree, f"{found[0]} leads to {target or 'nothing'}, which is not there"


def test_kernel_and_driver_are_held(host: Host, kernel: str) -> None:
    lines = host.run("dpkg --get-selections").stdout.splitlines()
    selected = {line.split()[0].split(":")[0]: line.split()[1] for line in lines}
    wanted = {name for name in selected if HELD.fullmatch(name)}
    needed = {"linux-image-cloud-amd64", f"linux-image-{kernel}", f"kiln-nvidia-modules-{kernel}", "libcuda1"}
    missing = sorted(needed - wanted)
    assert not missing, f"not installed: {shown(missing)}"
    free = sorted(name for name in wanted if selected[name] != "hold")
    assert not free, f"an upgrade would part kernel and driver, not held: {shown(free)}"


def test_nouveau_is_off(host: Host) -> None:
    said = host.run("modprobe --showconfig").stdout.splitlines()
    assert "blacklist nouveau" in said, "nouveau would take the GPU: modprobe has no 'blacklist nouveau'"


def test_driver_is_not_loaded_without_a_gpu(host: Host) -> None:
    said = host.run(
        "cat /etc/modules /etc/modules-load.d/*.conf /usr/lib/modules-load.d/*.conf 2>/dev/null"
    ).stdout.splitlines()
    found = [line.strip() for line in said if line.strip().startswith("nvidia")]
    assert not found, f"systemd-modules-load fails where there is no GPU: {shown(found)}"


def test_persistenced_waits_for_a_gpu(host: Host, tree: Tree) -> None:
    wanted = tree.matching("/etc/systemd/system/*.wants/nvidia-persistenced.service")
    assert wanted, "nvidia-persistenced.service is disabled: nothing makes the device files"
    said = unit(host.file(DROP_IN).content_string) if DROP_IN in tree else {}
    condition = said.get("ExecCondition", [""])[0]
    assert "0x10de" in condition and "/sys/bus/pci/devices/" in condition, (
        f"nvidia-persistenced fails where there is no GPU: {DROP_IN} has ExecCondition={condition or 'unset'}"
    )
    assert "nvidia-modprobe -c0 -u" in said.get("ExecStartPre", [""])[0], (
        f"nothing makes CUDA's device files: {DROP_IN} does not call nvidia-modprobe -c0 -u"
    )


def test_driver_was_not_compiled_here(host: Host, tree: Tree) -> None:
    said = host.run("dpkg-query --show --showformat '${db:Status-Status} ${Package}\\n' " + " ".join(
        f"'{name}'" for name in BUILD_TOOLS
    )).stdout.splitlines()  # fmt: skip
    # gcc-12-base holds no compiler: the C library's own support depends on it.
    found = [
        name
        for line in said
        if line.startswith("installed ") and not (name := line.split()[1]).endswith("-base")
    ]
    assert not found, f"package of a compiler in the image: {shown(found)}"
    left = tree.below("/usr/src", "/var/lib/dkms") + tree.matching(
        "/usr/lib/modules/*/build", "/usr/bin/*gcc*"
    )
    assert not left, f"left by a compilation: {shown(left)}"


def test_no_key_signs_modules(tree: Tree) -> None:
    found = tree.matching("*/mok.key", "*/mok.pub", "*/MOK.priv", "*/MOK.der", "*/signing_key.*")
    assert not found, f"who has the image could sign modules: {shown(found)}"


def test_sources_have_the_drivers_components(host: Host) -> None:
    said = host.run("cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null").stdout
    lines = re.findall(r"^deb +(?:\[[^\]]*\] +)?\S+ +(\S+) +(.*)$", said, re.MULTILINE)
    stanzas = host.run("cat /etc/apt/sources.list.d/*.sources 2>/dev/null").stdout.split("\n\n")
    for stanza in stanzas:
        fields = settings(stanza.replace(": ", "="))
        lines += [(suite, fields.get("Components", "")) for suite in fields.get("Suites", "").split()]
    debians = {suite: set(words.split()) for suite, words in lines if "main" in words.split()}
    lacking = sorted(suite for suite, words in debians.items() if words < COMPONENTS | {"main"})
    assert debians, "apt's sources have no suite with the component main"
    assert not lacking, f"the driver's packages are unknown to apt: no non-free in {shown(lacking)}"
