"""NVIDIA's driver: there for the image's kernel, held with it, and without what it was compiled with.

That its parts go together, by version and kernel, is what test_compat.py asks of the files themselves. What
holds of one source of the driver alone is asked where the role noted that source, or none that is known.
"""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

from tests.image import asking
from tests.image.tree import Tree, settings, shown, unit

MODULES = ("", "-uvm")
"""What follows ``nvidia`` in the names of the modules without which CUDA does not start."""

NOTE = "/etc/kiln/nvidia.env"
META = "linux-image-cloud-amd64"
HELD_WITH = {
    "debian": (META, "libcuda1", "kiln-nvidia-modules-{kernel}"),
    "nvidia_repository": (META, "libcuda1"),
    "preinstalled": (),
}
"""Source of the driver → packages that there must be beside the kernel's, and be held."""

KERNEL = re.compile(r"/usr/lib/modules/[^/]+")
HELD = re.compile(r"linux-image-.*|.*nvidia.*|libcuda.*")
BUILD_TOOLS = (
    "dkms", "dpkg-dev", "make", "gcc", "gcc-*", "cpp", "cpp-*", "binutils",
    "linux-headers-*", "linux-kbuild-*", "linux-compiler-*", "nvidia-kernel-dkms", "nvidia-open-kernel-dkms",
)  # fmt: skip
GPU_UNIT = "/etc/systemd/system/kiln-gpu.service"
GPU_PROGRAM = "/usr/local/lib/kiln/kiln_gpu.py"
DROP_IN = "/etc/systemd/system/nvidia-persistenced.service.d/10-kiln.conf"
COMPONENTS = {"contrib", "non-free", "non-free-firmware"}


def noted(host: Host) -> str:
    """The source that the role noted, empty where it noted none."""
    note = host.file(NOTE)
    return settings(note.content_string).get("DRIVER_SOURCE", "") if note.exists else ""


@pytest.fixture(scope="module")
def source(host: Host) -> str:
    """Where the driver came from; what says nothing that is known is asked what Debian's is."""
    said = noted(host)
    return said if said in HELD_WITH else "debian"


@pytest.fixture(scope="module")
def kernel(tree: Tree) -> str:
    """The kernel that is booted."""
    found = tree.matching("/boot/vmlinuz-*")
    assert found, "the image has no kernel"
    return found[-1].removeprefix("/boot/vmlinuz-")


def test_source_of_the_driver_is_noted(host: Host, tree: Tree) -> None:
    said = noted(host)
    assert said in HELD_WITH, (
        f"what the driver promises depends on its source: {NOTE} has DRIVER_SOURCE={said or 'unset'}"
    )
    entry = tree[NOTE]
    assert (entry.uid, entry.mode) == (0, 0o644), f"{NOTE} is of user {entry.uid}, mode {entry.mode:04o}"


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
    found = re.findall(r"libcuda\.so\.1 .*=> (\S+)", asking.said(host, "/sbin/ldconfig --print-cache"))
    assert found, "the loader does not know libcuda.so.1"
    target = host.run("readlink --canonicalize %s", found[0]).stdout.strip()
    assert target in tree, f"{found[0]} leads to {target or 'nothing'}, which is not there"


def test_kernel_and_driver_are_held(host: Host, kernel: str, source: str) -> None:
    lines = asking.said(host, "dpkg --get-selections").splitlines()
    selected = {line.split()[0].split(":")[0]: line.split()[1] for line in lines}
    wanted = {name for name in selected if HELD.fullmatch(name)}
    needed = {f"linux-image-{kernel}", *(name.format(kernel=kernel) for name in HELD_WITH[source])}
    missing = sorted(needed - wanted)
    assert not missing, f"not installed: {shown(missing)}"
    free = sorted(name for name in wanted if selected[name] != "hold")
    assert not free, f"an upgrade would part kernel and driver, not held: {shown(free)}"


def test_nouveau_is_off(host: Host) -> None:
    said = asking.said(host, "modprobe --showconfig").splitlines()
    assert "blacklist nouveau" in said, "nouveau would take the GPU: modprobe has no 'blacklist nouveau'"


def test_driver_is_not_loaded_without_a_gpu(host: Host, tree: Tree) -> None:
    folders = ("/etc/modules-load.d", "/usr/lib/modules-load.d")
    lines = asking.lines(host, tree, "/etc/modules", *(f"{folder}/*.conf" for folder in folders))
    found = [line.strip() for line in lines if line.strip().startswith("nvidia")]
    assert not found, f"systemd-modules-load fails where there is no GPU: {shown(found)}"


def waits_for_a_gpu(found: dict[str, list[str]], path: str) -> str:
    """What is wrong with the condition of a unit, empty where it starts where a GPU is and nowhere else."""
    condition = found.get("ExecCondition", [""])[0]
    sound = "v000010DE" in condition and "/sys/bus/pci/devices/*/modalias" in condition
    return "" if sound else f"it fails where there is no GPU: {path} has ExecCondition={condition or 'unset'}"


def test_device_files_are_made_before_they_are_used(host: Host, tree: Tree) -> None:
    assert tree.matching("/etc/systemd/system/*.wants/kiln-gpu.service"), (
        "kiln-gpu.service is disabled: nothing makes the device files of a GPU"
    )
    found = unit(host.file(GPU_UNIT).content_string) if GPU_UNIT in tree else {}
    wrong = waits_for_a_gpu(found, GPU_UNIT)
    assert not wrong, wrong
    before = set(" ".join(found.get("Before", [])).split())
    late = sorted({"nvidia-persistenced.service", "monai-label.service"} - before)
    assert not late, f"looks for the device files before they are made: {shown(late)}"
    assert found.get("ExecStart", [""])[0].endswith(f"python3 -I -S {GPU_PROGRAM}"), (
        f"nothing makes the device files of a GPU: {GPU_UNIT} does not run {GPU_PROGRAM}"
    )
    missing = [path for path in (GPU_PROGRAM, "/usr/bin/nvidia-modprobe") if path not in tree]
    assert not missing, f"kiln-gpu.service cannot make device files without {shown(missing)}"


def test_persistenced_waits_for_a_gpu(host: Host, tree: Tree) -> None:
    wanted = tree.matching("/etc/systemd/system/*.wants/nvidia-persistenced.service")
    assert wanted, "nvidia-persistenced.service is disabled: a GPU is started anew by each program"
    found = unit(host.file(DROP_IN).content_string) if DROP_IN in tree else {}
    wrong = waits_for_a_gpu(found, DROP_IN)
    assert not wrong, wrong
    assert "kiln-gpu.service" in " ".join(found.get("After", [])).split(), (
        f"nvidia-persistenced looks for the device files before they are made: {DROP_IN}"
    )


def test_driver_was_not_compiled_here(host: Host, tree: Tree, source: str) -> None:
    # DKMS compiled the others, and its modules leave with it.
    if source != "debian":
        return
    patterns = " ".join(f"'{name}'" for name in BUILD_TOOLS)
    query = f"dpkg-query --show --showformat '${{db:Status-Status}} ${{Package}}\\n' {patterns}"
    # 1: there is no package of one of the names.
    said = asking.said(host, query, accepted=(0, 1)).splitlines()
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


def test_sources_have_the_drivers_components(host: Host, source: str) -> None:
    if source != "debian":
        return
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
