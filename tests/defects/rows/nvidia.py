"""Defects of NVIDIA's driver and of what it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.defects.defect import Answer, Defect, change, found, gone, live, mode, several, static, write

MODULES = "usr/lib/modules/*/updates/nvidia"
UNITS = "etc/systemd/system"
UNIT = "nvidia-persistenced.service"
NOTE = "etc/kiln/nvidia.env"
GPU_UNIT = f"{UNITS}/kiln-gpu.service"

_NOTED = static("test_nvidia::test_source_of_the_driver_is_noted")
_FILES = static("test_nvidia::test_device_files_are_made_before_they_are_used")


def _unlist(root: Path) -> None:
    for path in found(root, "usr/lib/modules/*/modules.dep"):
        change(str(path.relative_to(root)), r"^updates/nvidia/.*\n", "")(root)


STATIC = [
    Defect(
        "a second kernel, without the driver",
        write("usr/lib/modules/5.10.0-99-amd64/modules.builtin"),
        static(
            "test_nvidia::test_the_one_kernel_has_its_modules", "test_compat::test_modules_are_for_the_kernel"
        ),
        ("is a guess", "5.10.0-99-amd64", "has not exactly one kernel"),
    ),
    Defect(
        "CUDA's module missing",
        gone(f"{MODULES}/nvidia-current-uvm.ko"),
        static(
            "test_base::test_packages_are_whole",
            "test_compat::test_modules_and_libraries_are_one_version",
            "test_nvidia::test_the_one_kernel_has_its_modules",
        ),
        ("updates/nvidia/nvidia-current-uvm.ko", "the kernel module nvidia-uvm is missing"),
    ),
    Defect(
        "modules that depmod does not know",
        _unlist,
        static("test_nvidia::test_the_one_kernel_has_its_modules"),
        ("depmod knows no module nvidia, nvidia-uvm",),
    ),
    Defect(
        "CUDA's library without its link",
        gone("etc/alternatives/*libcuda.so.1*"),
        static("test_nvidia::test_cuda_is_found_by_the_loader"),
        ("libcuda.so.1",),
    ),
    Defect(
        "kernel and driver not held",
        change("var/lib/dpkg/status", r"^(Package: (?:linux-image|libcuda1).*\nStatus:) hold", r"\1 install"),
        static("test_nvidia::test_kernel_and_driver_are_held"),
        ("not held: ", "libcuda1", "linux-image-cloud-amd64"),
    ),
    Defect(
        "nouveau on",
        gone("etc/modprobe.d/kiln-nvidia.conf", "etc/modprobe.d/*nouveau*"),
        static("test_nvidia::test_nouveau_is_off"),
        ("nouveau would take the GPU",),
    ),
    Defect(
        "driver loaded at every boot",
        write("etc/modules-load.d/gpu.conf", "nvidia-drm\n"),
        static("test_nvidia::test_driver_is_not_loaded_without_a_gpu"),
        ("nvidia-drm",),
    ),
    Defect(
        "daemon of the driver without its condition",
        gone(f"{UNITS}/{UNIT}.d/10-kiln.conf"),
        static("test_nvidia::test_persistenced_waits_for_a_gpu"),
        ("fails where there is no GPU",),
    ),
    Defect(
        "daemon of the driver that does not wait for the device files",
        change(f"{UNITS}/{UNIT}.d/10-kiln.conf", r"^After=.*\n", ""),
        static("test_nvidia::test_persistenced_waits_for_a_gpu"),
        ("before they are made",),
    ),
    Defect(
        "nothing makes device files",
        gone(f"{UNITS}/multi-user.target.wants/kiln-gpu.service"),
        _FILES,
        ("kiln-gpu.service is disabled",),
    ),
    Defect(
        "device files without their program",
        gone("usr/local/lib/kiln/kiln_gpu.py"),
        _FILES,
        ("cannot make device files without /usr/local/lib/kiln/kiln_gpu.py",),
    ),
    Defect(
        "device files by nvidia-modprobe in one call",
        change(GPU_UNIT, r"^(ExecStart)=.*", r"\1=/usr/bin/nvidia-modprobe -c0 -u"),
        _FILES,
        ("does not run /usr/local/lib/kiln/kiln_gpu.py",),
    ),
    Defect(
        "device files without a condition",
        change(GPU_UNIT, r"^ExecCondition=.*\n", ""),
        _FILES,
        ("fails where there is no GPU",),
    ),
    Defect(
        "device files after the server",
        change(GPU_UNIT, r" monai-label\.service$", ""),
        _FILES,
        ("before they are made: monai-label.service",),
    ),
    Defect("driver of no source that was noted", gone(NOTE), _NOTED, ("DRIVER_SOURCE=unset",)),
    Defect(
        "driver of an unknown source",
        write(NOTE, "DRIVER_SOURCE=runfile\n"),
        _NOTED,
        ("DRIVER_SOURCE=runfile",),
    ),
    Defect(
        "source of the driver that anybody may change",
        mode(NOTE, 0o646),
        _NOTED
        | static(
            "test_monai_label::test_settings_belong_to_root",
            "test_seal::test_nothing_is_writable_by_everybody",
        ),
        ("mode 0646",),
    ),
    Defect(
        # What its modules were compiled with may stay; the key and a free kernel may not.
        "driver of NVIDIA's repository, with the key of DKMS",
        several(
            write(NOTE, "DRIVER_SOURCE=nvidia_repository\n"),
            write("usr/src/nvidia-580.65.06/dkms.conf"),
            write("var/lib/dkms/mok.key", mode=0o600),
        ),
        static("test_nvidia::test_no_key_signs_modules"),
        ("could sign modules: /var/lib/dkms/mok.key",),
    ),
    Defect(
        "driver of NVIDIA's repository, not held",
        several(
            write(NOTE, "DRIVER_SOURCE=nvidia_repository\n"),
            change("var/lib/dpkg/status", r"^(Package: libcuda1\nStatus:) hold", r"\1 install"),
        ),
        static("test_nvidia::test_kernel_and_driver_are_held"),
        ("not held: libcuda1",),
    ),
    Defect(
        "driver that was there already, with a kernel that is not held",
        several(
            write(NOTE, "DRIVER_SOURCE=preinstalled\n"),
            change("var/lib/dpkg/status", r"^(Package: linux-image-\d.*\nStatus:) hold", r"\1 install"),
        ),
        static("test_nvidia::test_kernel_and_driver_are_held"),
        ("not held: linux-image-",),
    ),
    Defect(
        "headers of a compilation",
        write("usr/src/linux-headers-6.1.0-56-common/Makefile"),
        static("test_nvidia::test_driver_was_not_compiled_here"),
        ("/usr/src/linux-headers-6.1.0-56-common",),
    ),
    Defect(
        "key of DKMS",
        write("var/lib/dkms/mok.key", mode=0o600),
        static(
            "test_nvidia::test_driver_was_not_compiled_here",
            "test_nvidia::test_no_key_signs_modules",
        ),
        ("/var/lib/dkms/mok.key", "could sign modules"),
    ),
    Defect(
        "sources of apt without the driver's security updates",
        change("etc/apt/sources.list", r"^(deb \S+ bookworm-security main).*", r"\1"),
        static("test_nvidia::test_sources_have_the_drivers_components"),
        ("no non-free in bookworm-security",),
    ),
    Defect(
        "device files made by anybody",
        mode("usr/bin/nvidia-modprobe", 0o4755),
        static("test_seal::test_suid_files_were_reviewed"),
        ("/usr/bin/nvidia-modprobe",),
    ),
]

# As modprobe says it where Debian's settings call it again for the module.
_ERROR = "modprobe: ERROR: could not insert 'nvidia_current': "
_CALLED = (
    "\nmodprobe: ERROR: ../libkmod/libkmod-module.c:1047 command_do() Error running install command"
    " 'modprobe -i nvidia-current ' for module nvidia: retcode 1"
    "\nmodprobe: ERROR: could not insert 'nvidia': Invalid argument"
)

SOUND: dict[str, Any] = {
    "gpu_devices": [],
    "gpu_minors": [],
    "gpu_service": {"LoadState": "loaded", "ActiveState": "inactive"},
    "persistenced": {"LoadState": "loaded", "ActiveState": "inactive"},
    "pci_devices": [
        "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30",
        "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00",
    ],
    "modprobe_nvidia": f"{_ERROR}No such device{_CALLED}",
    "nvidia_loaded": False,
    "nouveau_loaded": False,
}

_LOADS = live("test_nvidia::test_modprobe_says_no_such_device")
_DAEMON = live("test_nvidia::test_persistenced_runs_where_there_is_a_gpu")
_DEVICES = live("test_nvidia::test_every_gpu_has_its_device_files")
_T4 = "pci:v000010DEd00001EB8sv000010DEsd000012A2bc03sc02i00"
_VGA = "pci:v000010DEd000013BAsv000010DEsd00001097bc03sc00i00"
LIVE = [
    Answer(
        "module with a symbol that the kernel lacks",
        ("modprobe_nvidia",),
        f"{_ERROR}Unknown symbol in module, or unknown parameter (see dmesg){_CALLED}",
        _LOADS,
        ("without a GPU: ", "Unknown symbol"),
    ),
    Answer(
        "module that this kernel cannot read",
        ("modprobe_nvidia",),
        f"{_ERROR}Exec format error{_CALLED}",
        _LOADS,
        ("without a GPU: ", "Exec format error"),
    ),
    Answer(
        "no module for the kernel that runs",
        ("modprobe_nvidia",),
        "modprobe: FATAL: Module nvidia not found in directory /lib/modules/6.1.0-1-cloud-amd64",
        _LOADS,
        ("Module nvidia not found",),
    ),
    Answer("modprobe without a word", ("modprobe_nvidia",), "", _LOADS, ("without a GPU: nothing",)),
    Answer(
        "driver loaded without a GPU",
        ("nvidia_loaded",),
        True,
        _LOADS,
        ("is loaded, and there is no GPU",),
    ),
    Answer(
        "a GPU that the driver does not take",
        ("pci_devices",),
        [_T4],
        _LOADS | _DAEMON | _DEVICES,
        (
            "with a GPU: ",
            "No such device",
            f"{UNIT} is inactive, and not active",
            "kiln-gpu.service is inactive",
        ),
    ),
    Answer(
        "a GPU that also drives a display, and that the driver does not take",
        ("pci_devices",),
        [_VGA],
        _LOADS | _DAEMON | _DEVICES,
        ("with a GPU: ", "is inactive, and not active"),
    ),
    Answer(
        "guest without a PCI bus",
        ("pci_devices",),
        [],
        _LOADS | _DAEMON | _DEVICES,
        ("nothing says whether it has a GPU",),
    ),
    Answer(
        "daemon of the driver failed",
        ("persistenced", "ActiveState"),
        "failed",
        _DAEMON,
        (f"{UNIT} is failed",),
    ),
    Answer(
        "daemon of the driver not installed",
        ("persistenced", "LoadState"),
        "not-found",
        _DAEMON,
        (f"{UNIT} is missing",),
    ),
    Answer(
        "device files could not be made",
        ("gpu_service", "ActiveState"),
        "failed",
        _DEVICES,
        ("kiln-gpu.service is failed",),
    ),
    Answer(
        "nouveau has the GPU",
        ("nouveau_loaded",),
        True,
        live("test_nvidia::test_nouveau_is_not_loaded"),
        ("nouveau is loaded",),
    ),
]
