"""Studies on EFS: reached through TLS that is checked, demanded by the server, and never written beneath."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from testinfra.host import Host

from tests.image.nfs import MASKED
from tests.image.tree import Tree, shown, unit

PROGRAM = "/usr/local/lib/kiln"
UNITS = "/etc/systemd/system"
HOST = "fs-12345678.efs.us-east-1.amazonaws.com"
SETTINGS = f"EFS_HOST={HOST}\nEFS_FOLDER=spleen\n"
UNMEANT = "EFS_HOST=\nEFS_PORT=none\n"

SERVICES = ("kiln-efs.service", "kiln-efs-tunnel.service")
TUNNEL = {
    "client": "yes",
    "connect": f"{HOST}:2049",
    "sslVersionMin": "TLSv1.2",
    "verifyChain": "yes",
    "checkHost": HOST,
    "CAfile": "/etc/ssl/certs/ca-certificates.crt",
}
"""What stunnel must be told, for the settings above."""

SEAL = "kiln-efs-point.service"
SEALED_BEFORE = {"cloud-init.service", "sysinit.target"}
"""What runs user data, and what every service waits for."""

LONGEST_PAUSE = 60.0
MOST_REFUSALS = 20
LONGEST_CONNECT = 30

# Has the image's own programs make what a boot with settings would make.
_PROGRAM = f"""
import json, os, pathlib, subprocess, sys, tempfile
made = {{}}
with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    for case, text in json.loads(sys.argv[1]).items():
        if text is not None:
            (folder / "efs.env").write_text(text)
        units = folder / case
        units.mkdir()
        environment = {{**os.environ, "KILN_EFS_SETTINGS": str(folder / "efs.env")}}
        for command in (
            ["/etc/systemd/system-generators/kiln-efs", str(units)],
            ["/usr/local/sbin/kiln-efs", "tunnel", str(units / "stunnel.conf")],
        ):
            subprocess.run(command, env=environment, stderr=subprocess.DEVNULL)
        made[case] = {{
            str(path.relative_to(units)): path.read_text() if path.is_file() and not path.is_symlink() else ""
            for path in sorted(units.rglob("*")) if not path.is_dir()
        }}
sys.path.insert(0, {PROGRAM!r})
sys.dont_write_bytecode = True
from kiln_efs import watch
pauses = [watch.pause("waiting", failed) for failed in range(1, 20)]
print(json.dumps({{"made": made, "pauses": pauses, "refusals": watch.REFUSALS}}))
"""


@dataclass(frozen=True)
class Made:
    """What the image makes of settings."""

    image: dict[str, Any]
    bare: dict[str, str]
    units: dict[str, str]
    fallback: dict[str, str]
    pauses: list[float]
    refusals: int

    @property
    def mount(self) -> str:
        return str(self.image["mount_point"]).strip("/").replace("/", "-") + ".mount"


@pytest.fixture(scope="module")
def made(host: Host) -> Made:
    cases = json.dumps({"bare": None, "units": SETTINGS, "fallback": UNMEANT})
    done = host.run("python3 -c %s %s", _PROGRAM, cases)
    assert done.rc == 0, f"kiln-efs makes nothing of settings: {done.stderr.strip()[-200:]}"
    said = json.loads(done.stdout)
    image = json.loads(host.file(f"{PROGRAM}/efs.json").content_string)
    return Made(image, **said.pop("made"), **said)


def test_client_is_there(host: Host, tree: Tree, made: Made) -> None:
    wanted = ["/usr/bin/stunnel4"] if made.image["tunnel"] else ["/usr/sbin/mount.efs"]
    missing = [path for path in ("/usr/sbin/mount.nfs4", *wanted) if path not in tree]
    assert not missing, f"missing: {shown(missing)}"


# Markers name what a root must have been through: the role base brings the kernel.
@pytest.mark.sealed
def test_kernel_has_the_client(tree: Tree) -> None:
    assert tree.matching("/usr/lib/modules/*/nfsv4.ko*"), "the kernel has no NFSv4 client"


def test_tunnel_checks_certificate_and_name(host: Host, made: Made) -> None:
    if not made.image["tunnel"]:
        assert "tls" in made.units[made.mount], "amazon-efs-utils mounts without TLS"
        return
    said = dict(line.split(" = ", 1) for line in made.units["stunnel.conf"].splitlines() if " = " in line)
    wrong = [f"{key} {said.get(key, 'unset')}" for key, value in TUNNEL.items() if said.get(key) != value]
    assert not wrong, f"the tunnel trusts too much: {shown(wrong)}"
    assert said["accept"].startswith("127."), f"the tunnel is open to others on {said['accept']}"
    assert int(said.get("TIMEOUTconnect", "999")) <= LONGEST_CONNECT, "the tunnel waits too long to connect"
    assert host.file(TUNNEL["CAfile"]).size > 0, "the system's certificates are missing"


def test_tunnel_is_not_root(host: Host, made: Made) -> None:
    if not made.image["tunnel"]:
        return
    said = unit(host.file(f"{UNITS}/kiln-efs-tunnel.service").content_string)
    user = said.get("User", ["root"])[-1]
    assert user != "root" and host.user(user).exists, f"the tunnel runs as {user}"
    assert said.get("CapabilityBoundingSet") == [""], "the tunnel may hold capabilities"
    assert said.get("NoNewPrivileges") == ["yes"], "the tunnel could gain privileges"


def test_retries_are_bounded(host: Host, made: Made) -> None:
    for name in SERVICES[: 1 + made.image["tunnel"]]:
        said = unit(host.file(f"{UNITS}/{name}").content_string)
        for key in ("StartLimitIntervalSec", "StartLimitBurst", "RestartSec"):
            assert said.get(key, ["0"])[-1].rstrip("smin") not in ("", "0"), f"{name} has no {key}"
    assert max(made.pauses) <= LONGEST_PAUSE, f"a pause of {max(made.pauses):.0f} s hides that EFS is back"
    assert made.pauses == sorted(made.pauses) and made.pauses[0] >= 1, "attempts come faster and faster"
    assert 1 <= made.refusals <= MOST_REFUSALS, f"what is refused is tried {made.refusals} times"


def test_without_settings_nothing_runs(host: Host, tree: Tree) -> None:
    started = [
        path
        for path in tree.matching(f"{UNITS}/*.wants/kiln-efs*", f"{UNITS}/*.mount")
        if not path.endswith("/tmp.mount")
    ]
    assert not started, f"started without settings: {shown(started)}"
    for name in SERVICES:
        if f"{UNITS}/{name}" in tree:
            conditions = unit(host.file(f"{UNITS}/{name}").content_string).get("ConditionPathExists", [])
            assert "/etc/kiln/efs.env" in conditions, f"{name} runs without settings"


def test_settings_start_the_watcher(made: Made) -> None:
    assert "multi-user.target.wants/kiln-efs.service" in made.units, "settings do not start kiln-efs.service"


def test_mount_waits_and_loses_nothing(made: Made) -> None:
    said = unit(made.units.get(made.mount, ""))
    assert said.get("Where") == [made.image["mount_point"]], "settings do not make a mount"
    options = said["Options"][-1].split(",")
    if made.image["tunnel"]:
        assert {"hard", "vers=4.1"} <= set(options), f"the mount is {shown(options, 20)}"
        assert said["What"] == ["127.0.0.2:/"], f"the mount goes past the tunnel to {said['What'][-1]}"
    assert {"nosuid", "nodev"} <= set(options), f"the mount is {shown(options, 20)}"
    assert said.get("Requires") == ["kiln-efs-check.service"], (
        "the mount does not ask for a sealed mount point"
    )


@pytest.mark.parametrize("case", ["units", "fallback"])
def test_server_demands_the_mount(made: Made, case: str) -> None:
    units: dict[str, str] = getattr(made, case)
    assert made.image["consumers"], "nobody demands the studies"
    for consumer in made.image["consumers"]:
        said = unit(units.get(f"{consumer}.d/50-efs.conf", ""))
        for key in ("BindsTo", "After"):
            assert said.get(key) == [made.mount], f"{consumer} does not demand {made.mount} by {key}"
        folder = "spleen" if case == "units" else "default"
        assert said["ReadWritePaths"] == [f"-{made.image['mount_point']}/{folder}"], (
            f"{consumer} may not write to its studies"
        )
        assert units["kiln-efs-server.env"] == (
            f"MONAI_LABEL_STUDIES={made.image['mount_point']}/{folder}\n"
        ), f"{consumer} does not take its studies from the mount"


def test_bare_mount_point_is_closed(tree: Tree, made: Made) -> None:
    point = tree[made.image["mount_point"]]
    assert (point.kind, point.mode, point.uid, point.gid) == ("d", 0, 0, 0), (
        f"{made.image['mount_point']} is {point.kind} {point.mode:o} {point.uid}:{point.gid}"
    )
    below = tree.below(made.image["mount_point"])
    assert not below, f"beneath the mount lies {shown(below)}"


def test_bare_mount_point_is_sealed_at_boot(host: Host, tree: Tree, made: Made) -> None:
    point = made.image["mount_point"]
    for case, what in (("bare", "without"), ("units", "with"), ("fallback", "with wrong")):
        assert f"sysinit.target.wants/{SEAL}" in getattr(made, case), (
            f"a boot {what} settings does not seal {point}"
        )
    said = unit(host.file(f"{UNITS}/{SEAL}").content_string)
    assert said.get("ExecStart") == [f"/usr/bin/chattr +i {point}"], f"{SEAL} does not seal {point}"
    assert "/usr/bin/chattr" in tree, "/usr/bin/chattr is missing: nothing seals the mount point"
    late = SEALED_BEFORE - set(" ".join(said.get("Before", [])).split())
    assert said.get("DefaultDependencies") == ["no"] and not late, (
        f"{SEAL} comes too late: not before {shown(sorted(late))}"
    )
    # A container may not set the flag; anywhere else it is set, whatever is there or not.
    conditions = {key: value for key, value in said.items() if key.startswith(("Condition", "Assert"))}
    assert conditions == {"ConditionVirtualization": ["!container"]}, f"{SEAL} may be skipped: {conditions}"


@pytest.mark.parametrize("name", MASKED)
def test_nothing_else_of_nfs_runs(host: Host, name: str) -> None:
    path = host.file(f"{UNITS}/{name}")
    assert path.is_symlink and path.linked_to == "/dev/null", f"{name} is not masked"


def test_only_root_mounts(tree: Tree) -> None:
    assert not tree["/usr/sbin/mount.nfs"].mode & 0o6000, "/usr/sbin/mount.nfs makes everybody root"


def test_programs_belong_to_root(tree: Tree) -> None:
    paths = ["/usr/local/sbin/kiln-efs", "/etc/systemd/system-generators/kiln-efs", *tree.below(PROGRAM)]
    open_ = [path for path in paths if tree[path].uid or tree[path].mode & 0o022]
    assert not open_, f"others than root may change {shown(open_)}"
