"""The MONAI Label server as it lies in the image."""

from __future__ import annotations

import csv
import json
import re

import pytest
from testinfra.host import Host

from tests.image.sandbox import HOME, SANDBOX
from tests.image.tree import Tree, settings, shown, unit

OPT = "/opt/monai-label"
VENV = f"{OPT}/venv"
SITE = f"{VENV}/lib/python3.11/site-packages"
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


def test_service_waits_for_a_slow_first_boot(service: dict[str, list[str]]) -> None:
    assert service["Type"] == ["notify"], "systemd would call the server started before it answers"
    assert service["TimeoutStartSec"] == ["15min"], "a slow first boot would be killed"
    assert service["Restart"] == ["on-failure"], "a crashed server would stay down"
    assert "StartLimitIntervalSec" in service, "a server that never starts would be started for ever"


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
        for p in (*tree.below("/etc/kiln"), "/etc/systemd/system/monai-label.service")
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
    sizes = {f"{SITE}/{path}": int(size) for path, _, size in rows}
    wrong = [path for path, size in sizes.items() if path not in tree or tree[path].size != size]
    assert not wrong, f"venv broken: missing or of another size: {shown(wrong)}"


def test_server_can_be_imported(host: Host) -> None:
    done = host.run(f"cd {HOME} && {AS_SERVICE} {VENV}/bin/python -c 'import torch, monai, monailabel.app'")
    assert done.rc == 0, f"venv broken: {done.stderr.strip().splitlines()[-1:] or done.rc}"


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
