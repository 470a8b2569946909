"""The package of NVIDIA's modules: what it says, what it refuses, and how it is kept."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from kiln.errors import KilnError, UsageError
from scripts import archive, driver
from scripts import cache as store

KERNEL = "6.1.0-40-cloud-amd64"
DRIVER = "535.247.01"
DEBIAN = f"{DRIVER}-1~deb12u1"
WANTED = ["nvidia-kernel-support", "libcuda1", "nvidia-persistenced"]
EPOCH = 1_700_000_000


def lock(**versions: str) -> archive.BaseLock:
    """Resolved inputs of an image with the driver; versions are given by package, _ for -."""
    there = {
        f"linux-image-{KERNEL}": "6.1.153-1",
        "linux-image-cloud-amd64": "6.1.153-1",
        "nvidia-kernel-support": DEBIAN,
        "libcuda1": DEBIAN,
        "nvidia-persistenced": "535.171.04-1",
        "nvidia-kernel-dkms": DEBIAN,
        "gcc-12": "12.2.0-14",
    } | {name.replace("_", "-"): version for name, version in versions.items()}
    stage = {name: there.pop(name) for name in ("nvidia-kernel-dkms", "gcc-12")}

    def section(packages: dict[str, str]) -> dict[str, archive.Package]:
        return {n: archive.Package(version=v, sha256="a" * 64, size=1) for n, v in packages.items()}

    return archive.BaseLock(releases={}, base={}, roles=section(there), stage=section(stage))


def package() -> driver.Package:
    found = driver.plan(lock(), WANTED)
    assert found is not None
    return found


def module(version: str = DRIVER, kernel: str = KERNEL) -> bytes:
    """An ELF file of two sections, the names and .modinfo."""
    info = f"license=NVIDIA\0version={version}\0vermagic={kernel} SMP mod_unload\0".encode()
    names = b"\0.modinfo\0.shstrtab\0"
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack(
        "<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64 + len(info) + len(names), 0, 64, 0, 0, 64, 3, 2
    )
    rows = [
        bytes(64),
        struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 64, len(info), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, 64 + len(info), len(names), 0, 0, 1, 0),
    ]
    return header + info + names + b"".join(rows)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KILN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """What DKMS leaves."""
    folder = tmp_path / "compiled"
    folder.mkdir()
    for name in ("", "-uvm", "-modeset", "-drm", "-peermem"):
        (folder / f"nvidia-current{name}.ko").write_bytes(module())
    return folder


def packed(compiled: Path, tmp_path: Path, name: str = "made.deb") -> Path:
    deb = tmp_path / name
    driver.pack(compiled, package(), deb, tmp_path / "log", EPOCH)
    return deb


def said(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_package_is_bound_to_the_kernel_and_to_its_own_userspace() -> None:
    found = package()
    assert found.name == f"kiln-nvidia-modules-{KERNEL}"
    assert found.version == f"{DRIVER}+6.1.153-1"
    assert list(found.depends) == [
        f"libcuda1 (= {DEBIAN})", f"nvidia-kernel-support (= {DEBIAN})", "nvidia-persistenced",
    ]  # fmt: skip
    assert driver.installed(lock(), WANTED) == {found.name: found.version}


def test_image_without_the_driver_has_no_package() -> None:
    bare = lock().model_copy(update={"stage": {}})
    assert driver.plan(bare, WANTED) is None
    assert driver.installed(bare, WANTED) == {}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"nvidia_kernel_support": "535.261.03-1"}, "the userspace 535.261.03-1"),
        ({"linux_image_6.1.0-41-cloud-amd64": "6.1.158-1"}, "compiled for 6.1.0-40"),
    ],
)
def test_contradiction_is_told(changed: dict[str, str], words: str) -> None:
    with pytest.raises(KilnError, match=words):
        driver.plan(lock(**changed), WANTED)


def test_image_without_a_kernel_is_told() -> None:
    with pytest.raises(KilnError, match="for no kernel"):
        archive.kernel(["linux-image-cloud-amd64", "systemd"])


def test_package_that_no_role_brings_is_told() -> None:
    with pytest.raises(KilnError, match="nvidia-smi was not resolved"):
        driver.plan(lock(), [*WANTED, "nvidia-smi"])


@pytest.mark.parametrize(
    "changed",
    [
        {"gcc_12": "12.2.0-15"},
        {"nvidia_persistenced": "535.171.04-2"},
        {f"linux-image-{KERNEL}": "6.1.153-2"},
    ],
)
def test_what_decides_the_bytes_decides_the_place(changed: dict[str, str]) -> None:
    found = driver.plan(lock(**changed), WANTED)
    assert found is not None
    # The daemon's version is not in the package.
    assert (found.cached() == package().cached()) is ("nvidia_persistenced" in changed)


def test_what_is_compiled_follows_from_the_roles() -> None:
    assert driver.sources(["base", "seal"], None) == ()
    with pytest.raises(UsageError, match="has no role nvidia"):
        driver.sources(["base", "seal"], "debian")
    assert driver.sources(["base", "nvidia"], "debian") == driver.SOURCES
    assert driver.sources(["base", "nvidia"], None) == driver.SOURCES
    with pytest.raises(UsageError, match="nvidia_repository"):
        driver.sources(["base", "nvidia"], "nvidia_repository")


def test_modules_are_packed_and_nothing_else(compiled: Path, tmp_path: Path) -> None:
    (compiled / "mok.key").write_text("a key that DKMS made\n")
    deb = packed(compiled, tmp_path)
    listed = [line.split() for line in said("dpkg-deb", "--contents", deb).splitlines()]
    files = {line[5] for line in listed if line[0][0] == "-"}
    folder = f"./lib/modules/{KERNEL}/updates/nvidia"
    assert files == {f"{folder}/nvidia-current{n}.ko" for n in ("", "-uvm", "-modeset", "-drm", "-peermem")}
    assert {line[1] for line in listed} == {"root/root"}
    assert {line[0] for line in listed} == {"-rw-r--r--", "drwxr-xr-x"}
    assert said("dpkg-deb", "--field", deb, "Package", "Version", "Conflicts").splitlines() == [
        f"Package: kiln-nvidia-modules-{KERNEL}",
        f"Version: {DRIVER}+6.1.153-1",
        "Conflicts: nvidia-kernel-dkms, nvidia-open-kernel-dkms",
    ]
    control = tmp_path / "control"
    subprocess.run(["dpkg-deb", "--control", deb, control], check=True)
    assert f"depmod -a {KERNEL}" in (control / "postinst").read_text()
    assert len((control / "md5sums").read_text().splitlines()) == 5
    assert not list(tmp_path.glob("*.tree")), "the folder that was packed is left"


def test_same_modules_make_the_same_package(compiled: Path, tmp_path: Path) -> None:
    one = packed(compiled, tmp_path)
    for path in compiled.iterdir():
        path.touch()
    assert packed(compiled, tmp_path, "again.deb").read_bytes() == one.read_bytes()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("nvidia-current.ko", None, "made no nvidia-current.ko"),
        ("nvidia-current-uvm.ko", None, "made no nvidia-current-uvm.ko"),
        ("nvidia-current-uvm.ko", module(kernel="6.1.0-41-amd64"), "for 6.1.0-41-amd64, not"),
        ("nvidia-current-drm.ko", module(version="535.261.03"), "is 535.261.03 for"),
        ("nvidia-current-drm.ko", b"", "no kernel module"),
    ],
)
def test_wrong_module_is_not_packed(
    compiled: Path, tmp_path: Path, name: str, data: bytes | None, words: str
) -> None:
    (compiled / name).unlink() if data is None else (compiled / name).write_bytes(data)
    with pytest.raises(KilnError, match=words):
        packed(compiled, tmp_path)
    assert not (tmp_path / "made.deb").exists()


@pytest.fixture
def compilations(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Compilations that were asked for; each takes the modules that are there, where DKMS takes minutes."""
    asked: list[str] = []

    def compile_(wanted: driver.Package, *_: object) -> None:
        asked.append(wanted.kernel)
        store.keep(packed(compiled, tmp_path, f"{len(asked)}.deb"), wanted.cached())

    monkeypatch.setattr(driver, "_compile", compile_)
    return asked


def make(tmp_path: Path, heard: list[str]) -> Path:
    found = driver.make(lock(), WANTED, {}, tmp_path, tmp_path / "log", heard.append)
    assert list(found) == [driver.LENT]
    return found[driver.LENT]


def test_package_is_made_once(compilations: list[str], tmp_path: Path) -> None:
    heard: list[str] = []
    assert make(tmp_path, heard) == make(tmp_path, heard) == package().cached()
    assert compilations == [KERNEL]
    assert heard == [f"{DRIVER} for {KERNEL}, from the cache"]


@pytest.mark.parametrize("damage", ["content", "checksum", "no checksum"])
def test_damaged_cache_is_noticed_and_made_again(
    compilations: list[str], tmp_path: Path, damage: str
) -> None:
    sound = make(tmp_path, []).read_bytes()
    deb, note = package().cached(), package().cached().with_suffix(".sha256")
    if damage == "content":
        deb.write_bytes(sound[:-1] + b"x")
    elif damage == "checksum":
        note.write_text("0" * 64)
    else:
        note.unlink()
    heard: list[str] = []
    assert make(tmp_path, heard).read_bytes() == sound
    assert len(compilations) == 2
    assert "does not match its checksum" in heard[0]


def test_half_of_a_copy_is_never_taken_and_goes(compilations: list[str], tmp_path: Path) -> None:
    folder = package().cached().parent
    folder.mkdir(parents=True)
    (folder / ".half-killed.deb").write_text("half")
    make(tmp_path, [])
    assert {path.name for path in folder.iterdir()} == {
        ".lock", package().cached().name, package().cached().with_suffix(".sha256").name,
    }  # fmt: skip


def test_oldest_packages_are_forgotten(compiled: Path, tmp_path: Path) -> None:
    deb = packed(compiled, tmp_path)
    places = [package().cached().with_name(f"{number}.deb") for number in range(store.KEPT + 1)]
    for number, place in enumerate(places):
        store.keep(deb, place)
        os.utime(place, (number, number))
    store.keep(deb, package().cached())
    left = {path.name for path in places[0].parent.glob("*.deb")}
    assert left == {places[-2].name, places[-1].name, package().cached().name}
    assert not places[0].with_suffix(".sha256").exists()
