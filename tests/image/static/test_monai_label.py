"""The MONAI Label server as it lies in the image."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict

import pytest
import yaml
from testinfra.host import Host

from kiln import paths
from tests.image.sandbox import HOME, SANDBOX
from tests.image.tree import Tree, settings, shown, unit

OPT = "/opt/monai-label"
VENV = f"{OPT}/venv"
SITE = f"{VENV}/lib/python3.11/site-packages"
UNITS = ("monai-label", "kiln-readahead")
UID = 10001
AS_SERVICE = (
    f"setpriv --reuid={UID} --regid={UID} --clear-groups env HOME={HOME} MPLCONFIGDIR={HOME}/cache/matplotlib"
)
# One process of the image itself: what it imports, and whether its bytecode is used without asking.
_BYTECODE = r"""
import pathlib, sys
site = pathlib.Path(sys.argv[1])
for source in site.rglob("*.py"):
    code = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
    if not code.exists():
        print("missing", source)
    elif code.open("rb").read(8)[4:8] != b"\1\0\0\0":
        print("checked", source)
"""


# What the distributions ask for and is not there, and what is there in a version that one of them refuses.
_REQUIREMENTS = r"""
import importlib.metadata, json, sys
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical
there = list(importlib.metadata.distributions(path=[sys.argv[1]]))
versions = {canonical(one.metadata["Name"]): one.version for one in there}
missing, refused = set(), set()
for wanted in (Requirement(text) for one in there for text in one.requires or ()):
    if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
        name = canonical(wanted.name)
        if name not in versions:
            missing.add(name)
        elif not wanted.specifier.contains(versions[name], prereleases=True):
            refused.add(name)
print(json.dumps([sorted(missing), sorted(refused)]))
"""
_OVERRIDES = [paths.ROOT / f"requirements/monai-label.{name}.txt" for name in ("overrides", "left-out")]
OVERRIDDEN = dict(
    re.findall(r"^([\w.-]+) *(.*)$", "\n".join(path.read_text() for path in _OVERRIDES), re.MULTILINE)
)
"""Distribution → what an override asks for in place of what the distributions do."""

LEFT_OUT = [
    row["glob"]
    for row in yaml.safe_load((paths.ROOT / "ansible/roles/monai_label/vars/main.yml").read_text())[
        "__monai_label_left_out"
    ]
]
"""Globs below site-packages of what the role removes."""

READAHEAD = f"{OPT}/readahead.list"
READ_BY_EVERY_START = (
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libtorch_cuda.so",
    "uvicorn/__pycache__/server.",
    "monailabel/__pycache__/app.",
)
LIBRARIES_BYTES = 100_000_000
"""Below this, no libraries are on a list: torch's alone are more."""


def pattern(glob: str) -> re.Pattern[str]:
    """A glob of the role, and everything below what it names."""
    words = {"**/": "(?:.*/)?", "*": "[^/]*"}
    parts = re.split(r"(\*\*/|\*)", glob)
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts) + "(?:/.*)?")


IS_LEFT_OUT = re.compile("|".join(f"(?:{pattern(glob).pattern})" for glob in LEFT_OUT))


@pytest.fixture(scope="module")
def service(host: Host) -> dict[str, list[str]]:
    return unit(host.file("/etc/systemd/system/monai-label.service").content_string)


@pytest.fixture(scope="module")
def environment(host: Host) -> dict[str, str]:
    return settings(host.file("/etc/kiln/monai-label.env").content_string)


def test_account_has_its_ids(host: Host) -> None:
    user = host.user("monai-label")
    assert user.exists, "the user monai-label is missing"
    assert (user.uid, user.gid) == (UID, UID), f"monai-label is {user.uid}:{user.gid} and not {UID}:{UID}"
    assert user.shell.endswith("nologin"), f"monai-label may log in: its shell is {user.shell}"


def test_service_is_enabled(host: Host) -> None:
    assert host.service("monai-label").is_enabled, "monai-label.service is disabled"


def test_service_is_not_root(service: dict[str, list[str]]) -> None:
    found = [service.get(key, ["root"])[0] for key in ("User", "Group")]
    assert found == ["monai-label", "monai-label"], f"monai-label.service runs as {':'.join(found)}"


@pytest.mark.parametrize("setting", SANDBOX)
def test_service_is_sandboxed(service: dict[str, list[str]], setting: str) -> None:
    found = service.get(setting, ["unset"])
    assert found == [SANDBOX[setting]], f"monai-label.service is not sandboxed: {setting} is {shown(found)}"


def test_service_keeps_the_gpu(service: dict[str, list[str]]) -> None:
    closing = [
        key for key in ("PrivateDevices", "ProtectClock", "DevicePolicy", "DeviceAllow") if key in service
    ]
    assert not closing, f"{shown(closing)} takes the GPU away from monai-label.service"


def seconds(span: str) -> float:
    """Length of a time span as systemd.time(7) writes it, in seconds."""
    units = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)\s*([a-z]*)", span))


def test_service_waits_for_a_slow_first_boot(service: dict[str, list[str]]) -> None:
    assert service["Type"] == ["notify"], "systemd would call the server started before it answers"
    assert service.get("Restart") == ["on-failure"], "a crashed server would stay down"
    found = {
        key: service.get(key, ["0"])[0] for key in ("TimeoutStartSec", "RestartSec", "StartLimitIntervalSec")
    }
    timeout, pause, interval = (seconds(value) for value in found.values())
    burst = int(service.get("StartLimitBurst", ["0"])[0])
    assert timeout >= 15 * 60, f"a slow first boot would be killed after {found['TimeoutStartSec']}"
    # systemd counts the starts within the interval: a shorter one never sees as many as it allows.
    assert 0 < burst * (timeout + pause) <= interval, (
        f"a server that never starts would be started for ever: {burst} starts do not fit into"
        f" {found['StartLimitIntervalSec']}"
    )


def test_settings_are_offline(environment: dict[str, str]) -> None:
    conf = json.loads(environment["MONAI_LABEL_APP_CONF"])
    assert conf.get("models"), "no model is configured"
    assert conf.get("sam2") == "false", "SAM2 would be downloaded at every start"
    assert environment["MONAI_LABEL_STUDIES"] == f"{HOME}/studies", (
        f"studies are {environment['MONAI_LABEL_STUDIES']}"
    )


def test_settings_belong_to_root(tree: Tree) -> None:
    found = [
        p
        for p in (*tree.below("/etc/kiln"), *(f"/etc/systemd/system/{name}.service" for name in UNITS))
        if tree[p].uid or tree[p].mode & 0o022
    ]
    assert not found, f"the service could change its own settings: {shown(found)}"


def test_environment_is_the_locked_one(host: Host) -> None:
    lock = host.file(f"{VENV}/installed.lock")
    assert lock.exists, "venv broken: it was not installed to the end, installed.lock is missing"
    locked = re.findall(r"^([\w.-]+)==([^ ;\\]+)", lock.content_string, re.MULTILINE)
    listed = "\n".join(host.run("ls %s", SITE).stdout.split())
    there = re.findall(r"^(.+?)-([^-]+)\.dist-info$", listed, re.MULTILINE)
    wanted, found = ({f"{canonical(name)} {version}" for name, version in pairs} for pairs in (locked, there))
    missing, surplus = sorted(wanted - found), sorted(found - wanted)
    assert not missing, (
        f"venv broken: not as locked: {shown(missing)}; there is {shown(surplus) or 'nothing else'}"
    )
    assert not surplus, f"venv broken: not in the lock: {shown(surplus)}"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_file_of_the_environment_is_there(host: Host, tree: Tree) -> None:
    said = host.run(f"cat {SITE}/*.dist-info/RECORD").stdout
    rows = [row for row in csv.reader(said.splitlines()) if len(row) == 3 and row[2].isdigit()]
    # numpy brings a .pyc, which is compiled anew like all others.
    rows = [row for row in rows if not row[0].startswith("../") and not row[0].endswith(".pyc")]
    assert len(rows) > 10_000, "venv broken: its distributions list almost no files"
    sizes = {f"{SITE}/{path}": int(size) for path, _, size in rows if not IS_LEFT_OUT.fullmatch(path)}
    wrong = [path for path, size in sizes.items() if path not in tree or tree[path].size != size]
    assert not wrong, f"venv broken: missing or of another size: {shown(wrong)}"


def test_nothing_is_missing_but_what_is_overridden(host: Host) -> None:
    done = host.run(f"{VENV}/bin/python -B -c %s %s", _REQUIREMENTS, SITE)
    assert done.rc == 0, f"venv broken: its requirements cannot be read: {done.stderr[-200:]}"
    missing, refused = (set(names) for names in json.loads(done.stdout))
    never = {name for name, marker in OVERRIDDEN.items() if "never" in marker}
    assert missing <= never, f"venv broken: required and not there: {shown(sorted(missing - never))}"
    refused -= OVERRIDDEN.keys()
    assert not refused, (
        f"venv broken: in a version that another distribution refuses: {shown(sorted(refused))}"
    )


def test_what_is_left_out_is_gone(tree: Tree) -> None:
    found = [path for path in tree.below(SITE) if IS_LEFT_OUT.fullmatch(path.removeprefix(f"{SITE}/"))]
    assert not found, f"of no use to inference and training, and there: {shown(found)}"


def test_server_can_be_imported(host: Host) -> None:
    done = host.run(f"cd {HOME} && {AS_SERVICE} {VENV}/bin/python -c 'import torch, monai, monailabel.app'")
    assert done.rc == 0, f"venv broken: {done.stderr.strip().splitlines()[-1:] or done.rc}"


def test_store_fits_the_server(host: Host) -> None:
    try_it = f"import sys; sys.path.insert(0, '{OPT}'); from kiln_store import monai; monai.use()"
    done = host.run(f"cd {HOME} && {AS_SERVICE} {VENV}/bin/python -c %s", try_it)
    why = [line for line in done.stderr.splitlines() if "Error" in line][-1:] or done.rc
    assert done.rc == 0, f"labels of several servers would be lost: {why}"


def test_bytecode_is_there_and_unchecked(host: Host) -> None:
    done = host.run("python3 -c %s %s", _BYTECODE, SITE)
    assert done.rc == 0, f"bytecode cannot be read: {done.stderr[-200:]}"
    found = done.stdout.splitlines()
    assert not found, (
        f"{len(found)} modules without unchecked bytecode, each start compiles or checks them: {shown(found)}"
    )


def test_environment_belongs_to_root(tree: Tree) -> None:
    found = [path for path in tree.below(OPT) if tree[path].uid or tree[path].gid]
    assert not found, f"the service could change its own program: {shown(found)}"


def test_installers_are_gone(tree: Tree) -> None:
    found = [
        path
        for path in (f"{OPT}/setup", f"{VENV}/bin/uv", f"{VENV}/bin/pip", f"{SITE}/pip", f"{SITE}/uv")
        if path in tree
    ]
    assert not found, f"installer left in the image: {shown(found)}"


def test_app_belongs_to_the_service(tree: Tree, environment: dict[str, str]) -> None:
    app = environment["MONAI_LABEL_APP_DIR"]
    assert f"{app}/main.py" in tree, f"the app is missing: {app}/main.py"
    foreign = [path for path in (HOME, *tree.below(HOME)) if (tree[path].uid, tree[path].gid) != (UID, UID)]
    assert not foreign, f"wrong owner, the app belongs to {UID}: {shown(foreign)}"


def test_weights_are_there(host: Host, tree: Tree, environment: dict[str, str]) -> None:
    origin = json.loads(host.file("/etc/kiln/weights.json").content_string)["origin"]
    assert origin in ("random", "pinned", "test"), f"weights of unknown origin: {origin}"
    for model in json.loads(environment["MONAI_LABEL_APP_CONF"])["models"].split(","):
        found = tree.files(
            tree.matching(f"{environment['MONAI_LABEL_APP_DIR']}/model/pretrained_{model}*.pt")
        )
        assert found, f"no weights for {model}: the start would download them"
        assert all(tree[path].size > 1000 for path in found), f"weights of {model} are empty"


def test_font_cache_is_there(tree: Tree) -> None:
    assert tree.matching(f"{HOME}/cache/matplotlib/fontlist-*.json"), (
        "matplotlib would build its font cache at the first start"
    )


def test_readahead_is_enabled(host: Host) -> None:
    assert host.service("kiln-readahead").is_enabled, (
        "kiln-readahead.service is disabled: a cold start is slow"
    )


def test_readahead_knows_what_a_start_reads(host: Host, tree: Tree) -> None:
    assert READAHEAD in tree, f"{READAHEAD} is missing: nobody watched a start"
    rows = [line.split(" ", 2) for line in host.file(READAHEAD).content_string.splitlines()]
    ends: defaultdict[str, int] = defaultdict(int)
    for offset, length, path in rows:
        ends[path] = max(ends[path], int(offset) + int(length))
    lacking = [
        name for name in READ_BY_EVERY_START if not any(path.startswith(f"{SITE}/{name}") for path in ends)
    ]
    assert not lacking, f"the readahead's list lacks what every start reads: {shown(lacking)}"
    total = sum(int(length) for _, length, _ in rows)
    assert total > LIBRARIES_BYTES, f"the readahead's list has {total} bytes, without any library"
    # A few may change after the list is made; the readahead passes over them.
    wrong = [path for path, end in ends.items() if path not in tree or tree[path].size < end]
    assert len(wrong) * 100 <= len(ends), f"the readahead's list is of another image: {shown(wrong)}"


def test_readahead_does_not_hold_up_the_boot(host: Host) -> None:
    found = unit(host.file("/etc/systemd/system/kiln-readahead.service").content_string)
    assert found.get("DefaultDependencies") == ["no"], "kiln-readahead.service: targets wait for it"
    assert found.get("Before") == ["shutdown.target"], (
        f"waits for the readahead: {shown(found.get('Before', []))}"
    )
    assert found["ExecStart"][0].startswith("-"), "a readahead that fails would be a failed unit"
    assert found.get("User") == ["monai-label"], "the readahead runs as root"


def test_studies_are_shared_by_group(tree: Tree) -> None:
    mode = tree[f"{HOME}/studies"].mode
    assert mode == 0o2770, f"{HOME}/studies has mode {mode:o} and not 2770"


@pytest.mark.sealed
def test_no_trial_start_left_anything(tree: Tree, environment: dict[str, str]) -> None:
    app = environment["MONAI_LABEL_APP_DIR"]
    found = (
        tree.below(f"{HOME}/studies")
        + tree.files(tree.below(f"{app}/logs"))
        + tree.matching(f"{app}/model/*/*")
    )
    assert not found, f"left by a trial start: {shown(found)}"
