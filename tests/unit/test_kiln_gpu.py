"""The program that makes the device files, in a made /proc, /sys and /dev: run as the unit runs it.

The fakes do what the sources of nvidia-modprobe say, in main() and mknod_helper(). A device file is here
a link to /dev/null, so that none of it needs root.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from kiln import paths

ROLE = paths.ROOT / "ansible/roles/nvidia"
PROGRAM = ROLE / "files/kiln_gpu.py"
CONDITION: str = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__nvidia_condition"]

UVM = {"nvidia-uvm", "nvidia-uvm-tools"}
T4 = "pci:v000010DEd00001EB8sv000010DEsd000012A2bc03sc02i00"
VGA = "pci:v000010DEd000013BAsv000010DEsd00001097bc03sc00i00"
OTHERS = {
    "0000:00:04.0": "pci:v00001D0Fd00008061sv00001D0Fsd00008061bc01sc08i02",
    "0000:00:05.0": "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00",
    "0000:00:06.0": "pci:v000010DEd000022A3sv000010DEsd00001796bc06sc80i00",
    "0000:00:07.0": "pci:v000010DEd000010F7sv000010DEsd000012A2bc04sc03i00",
}
"""A disk, a display of another maker, and of NVIDIA's an NVSwitch and a sound device."""

MODPROBE = r"""#!/usr/bin/python3 -IS
import pathlib, sys
root, module = pathlib.Path(sys.argv[0]).parents[1], sys.argv[1]
with (root / "calls").open("a") as calls:
    calls.write(f"modprobe {module}\n")
# nvidia-uvm takes symbols of nvidia's.
if {module, "nvidia"} & set((root / "broken").read_text().split()):
    sys.exit(f"modprobe: ERROR: could not insert '{module}': No such device")
if module == "nvidia":
    # What the driver does as it starts: an entry for each device that it takes.
    for line in (root / "hardware").read_text().splitlines():
        address, minor = line.split()
        entry = root / "proc/driver/nvidia/gpus" / address
        entry.mkdir(parents=True, exist_ok=True)
        (entry / "information").write_text(
            f"Model: \t\t Tesla T4\nIRQ:   \t\t 11\nBus Location: \t {address}\nDevice Minor: \t {minor}\n"
            "GPU Excluded:\t No\n"
        )
(root / "loaded").open("a").write(f"{module}\n")
"""

NVIDIA_MODPROBE = r"""#!/usr/bin/python3 -IS
import getopt, pathlib, subprocess, sys
root = pathlib.Path(sys.argv[0]).parents[2]
with (root / "calls").open("a") as calls:
    calls.write(f"nvidia-modprobe {' '.join(sys.argv[1:])}\n")
options, _ = getopt.getopt(sys.argv[1:], "c:u")
minors = [int(value) for name, value in options if name == "-c"]
assert len(minors) <= 64, "Too many NVIDIA character device files requested."
# One or the other: -u takes -c for itself.
unified = ("-u", "") in options
module = "nvidia-uvm" if unified else "nvidia"
if module not in (root / "loaded").read_text().split():
    if subprocess.run([root / "sbin/modprobe", module], capture_output=True).returncode:
        sys.exit(1)
for minor in minors:
    one = "nvidiactl" if minor == 255 else f"nvidia{minor}"
    names = ["nvidia-uvm", "nvidia-uvm-tools"] if unified else [one]
    if not (root / "unmodified").exists():
        for name in names:
            path = root / "dev" / name
            path.unlink(missing_ok=True)
            path.symlink_to("/dev/null")
"""


def machine(root: Path, gpus: dict[str, int], **bus: str) -> Path:
    """A machine that has loaded no driver; its GPUs by address and minor, and what else is on the bus."""
    for folder in ("dev", "sbin", "usr/bin", "sys/bus/pci/devices"):
        (root / folder).mkdir(parents=True)
    for name, text in (("sbin/modprobe", MODPROBE), ("usr/bin/nvidia-modprobe", NVIDIA_MODPROBE)):
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    for address, alias in {**OTHERS, **dict.fromkeys(gpus, T4), **bus}.items():
        device = root / "sys/bus/pci/devices" / address
        device.mkdir()
        (device / "modalias").write_text(f"{alias}\n")
    (root / "hardware").write_text("".join(f"{address} {minor}\n" for address, minor in gpus.items()))
    for name in ("broken", "loaded", "calls"):
        (root / name).write_text("")
    return root


def made(root: Path) -> set[str]:
    """Device files that are there."""
    return {path.name for path in (root / "dev").iterdir()}


def wanted(*minors: int) -> set[str]:
    """Device files without which CUDA does not find every GPU."""
    return {"nvidiactl", *UVM, *(f"nvidia{minor}" for minor in minors)}


def run(root: Path) -> subprocess.CompletedProcess[str]:
    """The program, as the unit starts it."""
    command = ["/usr/bin/python3", "-I", "-S", PROGRAM, root]
    return subprocess.run(command, capture_output=True, text=True)


def meets(root: Path) -> bool:
    """Whether the units start on this machine."""
    _, _, command = CONDITION.partition("=")
    words = [word.replace("/sys/", f"{root}/sys/") for word in shlex.split(command)]
    return subprocess.run(words).returncode == 0


@pytest.mark.parametrize(
    "gpus",
    [
        {"0000:00:1e.0": 0},
        {"0000:00:1b.0": 0, "0000:00:1c.0": 1, "0000:00:1d.0": 2, "0000:00:1e.0": 3},
        # A GPU that is excluded leaves its minor unused, and the order on the bus need not be the minors'.
        {"0000:53:00.0": 7, "0001:00:00.0": 2},
        {f"0000:{bus:02x}:00.0": bus for bus in range(100)},
    ],
    ids=len,
)
def test_every_gpu_has_its_device_file(tmp_path: Path, gpus: dict[str, int]) -> None:
    done = run(machine(tmp_path, gpus))
    assert (done.returncode, done.stderr) == (0, "")
    assert made(tmp_path) == wanted(*gpus.values())
    assert done.stdout == f"{len(gpus)} GPU on the PCI bus: device files are there\n"


def test_unified_memory_takes_the_minor_for_itself(tmp_path: Path) -> None:
    """What the unit of the daemon once called: it makes no file of a GPU, and ends well."""
    machine(tmp_path, {"0000:00:1e.0": 0})
    subprocess.run([tmp_path / "usr/bin/nvidia-modprobe", "-c0", "-u"], check=True)
    assert wanted(0) - made(tmp_path) == {"nvidiactl", "nvidia0"}


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    machine(tmp_path, {"0000:00:1e.0": 0})
    assert [run(tmp_path).returncode, run(tmp_path).returncode] == [0, 0]
    assert made(tmp_path) == wanted(0)


def test_modprobe_waits_for_a_load_that_udev_began(tmp_path: Path) -> None:
    machine(tmp_path, {"0000:00:1e.0": 0})
    # As /proc/modules has it meanwhile, by which nvidia-modprobe goes.
    (tmp_path / "loaded").write_text("nvidia\nnvidia-uvm\n")
    assert run(tmp_path).returncode == 0
    assert (tmp_path / "calls").read_text().splitlines()[:2] == ["modprobe nvidia", "modprobe nvidia-uvm"]
    assert made(tmp_path) == wanted(0)


def test_without_a_gpu_nothing_is_loaded_and_nothing_fails(tmp_path: Path) -> None:
    done = run(machine(tmp_path, {}))
    assert (done.returncode, done.stdout) == (0, "no GPU of NVIDIA's on the PCI bus\n")
    assert made(tmp_path) == set()
    assert (tmp_path / "calls").read_text() == ""


@pytest.mark.parametrize("broken", ["nvidia", "nvidia-uvm"])
def test_a_module_that_does_not_load_is_named(tmp_path: Path, broken: str) -> None:
    machine(tmp_path, {"0000:00:1e.0": 0})
    (tmp_path / "broken").write_text(broken)
    done = run(tmp_path)
    assert done.returncode == 1
    assert f"sbin/modprobe {broken} ended with 1, and said: modprobe: ERROR: could not insert" in done.stderr
    assert ("the driver has not taken the GPU 0000:00:1e.0" in done.stderr) is (broken == "nvidia")
    assert "there is no /dev/nvidia-uvm\n" in done.stderr


def test_a_gpu_that_the_driver_does_not_take_is_named_and_the_others_can_be_used(tmp_path: Path) -> None:
    machine(tmp_path, {"0000:00:1d.0": 0}, **{"0000:00:1e.0": VGA})
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr == "the driver has not taken the GPU 0000:00:1e.0; the kernel's log says why\n"
    assert done.stdout == "2 GPU on the PCI bus: NOT usable, see above\n"
    assert made(tmp_path) == wanted(0)


def test_files_that_do_not_come_are_named_although_all_calls_ended_well(tmp_path: Path) -> None:
    machine(tmp_path, {"0000:00:1e.0": 0})
    # The driver's parameter ModifyDeviceFiles=0: nvidia-modprobe then makes none, and calls that success.
    (tmp_path / "unmodified").touch()
    done = run(tmp_path)
    assert done.returncode == 1
    assert set(done.stderr.splitlines()) == {f"there is no /dev/{name}" for name in wanted(0)}


def test_what_stands_there_and_is_no_device_is_no_device_file(tmp_path: Path) -> None:
    machine(tmp_path, {"0000:00:1e.0": 0})
    (tmp_path / "unmodified").touch()
    for name in wanted(0) - {"nvidia0"}:
        os.symlink("/dev/null", tmp_path / "dev" / name)
    (tmp_path / "dev/nvidia0").touch()
    assert run(tmp_path).stderr == "there is no /dev/nvidia0\n"


@pytest.mark.parametrize(
    ("bus", "gpu"), [({}, False), ({"0000:00:1e.0": T4}, True), ({"0000:01:00.0": VGA}, True)]
)
def test_units_start_where_a_gpu_is(tmp_path: Path, bus: dict[str, str], gpu: bool) -> None:
    assert meets(machine(tmp_path, {}, **bus)) is gpu
    # The program, asked by itself, sees the same.
    assert (run(tmp_path).stdout != "no GPU of NVIDIA's on the PCI bus\n") is gpu


def test_units_do_not_start_on_a_machine_without_a_bus(tmp_path: Path) -> None:
    assert not meets(tmp_path)


def test_both_units_ask_the_same() -> None:
    for name in ("kiln-gpu.service.j2", "persistenced.conf.j2"):
        assert "{{ __nvidia_condition }}\n" in (ROLE / "templates" / name).read_text()
