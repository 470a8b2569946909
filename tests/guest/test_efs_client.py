"""A session with EFS: nfs-ganesha behind TLS on this machine, the image in a guest, and what goes wrong.

The tests are one story and run in this order. Where the image has no MONAI Label server, a unit of its name
stands in for it.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kiln.errors import KilnError
from scripts import nfs_server
from scripts.guest import Guest
from scripts.nfs_server import NAME, Authority, Server

pytestmark = [pytest.mark.slow, pytest.mark.root]

POINT = "/mnt/studies"
ID = 10001
AWAY_SECONDS = 120.0
SHUTDOWN_SECONDS = 300.0
PATIENCE = 600.0
"""Seconds that an emulated guest may take for what it does by itself."""

STAND_IN = """\
[Unit]
Description=Stands in for the MONAI Label server
[Service]
Type=exec
User=monai-label
ProtectSystem=strict
Environment=MONAI_LABEL_STUDIES=/nowhere
ExecStart=/bin/sh -c 'echo started >> "$MONAI_LABEL_STUDIES/stand-in"; exec sleep infinity'
"""

# Writes records, each synced, and notes outside of the mount how many were acknowledged.
WRITER = f"""\
import hashlib, os, pathlib, time
with open("{POINT}/default/records", "wb") as out:
    number = 0
    while not pathlib.Path("/run/writer.stop").exists():
        out.write(hashlib.sha256(str(number).encode()).digest() * 256)
        out.flush()
        os.fsync(out.fileno())
        number += 1
        pathlib.Path("/run/writer.part").write_text(str(number))
        os.replace("/run/writer.part", "/run/writer.done")
        time.sleep(0.2)
"""


def wait(what: str, attempt: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Try until it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := attempt()):
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s"
        time.sleep(1)
    return found


@dataclass
class Client:
    """The guest as the client of the file system."""

    guest: Guest
    server: Server

    def sh(self, command: str, seconds: float = 180) -> str:
        return self.guest.run(f"sudo sh -c {shlex.quote(command)}", seconds)

    def fails(self, command: str) -> str:
        """What a command says that must fail."""
        return self.sh(f"if {command}; then echo succeeded; exit 1; fi 2>&1")

    def put(self, path: str, text: str) -> None:
        self.sh(f"printf %s {shlex.quote(text)} > {path}")

    def configure(self, **changed: str) -> None:
        """Write the settings as an operator does, and have them taken up."""
        settings = {"EFS_HOST": NAME, "EFS_PORT": str(self.server.port), "EFS_CA": "/etc/kiln/test-ca.pem"}
        self.put("/etc/kiln/efs.env", "".join(f"{k}={v}\n" for k, v in {**settings, **changed}.items()))
        self.sh("systemctl daemon-reload; systemctl restart kiln-efs-tunnel kiln-efs")

    def status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.sh("cat /run/kiln/efs.json 2>/dev/null || echo {}"))
        return said

    def until(self, state: str, words: str = "", seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for a state; no command is given meanwhile that could bring it about."""

        def attempt() -> dict[str, Any] | None:
            said = self.status()
            there = said.get("state") == state and words in said["what"]
            return said if there else None

        try:
            found: dict[str, Any] = wait(f"{state} {words}".strip(), attempt, seconds)
        except AssertionError as error:
            journal = self.sh("journalctl -b -n 60 -u 'kiln-efs*' -u mnt-studies.mount --no-pager")
            raise AssertionError(f"{error}; status {self.status()}\n{journal}") from None
        return found

    def active(self, unit: str) -> str:
        return self.sh(f"systemctl show --value --property=ActiveState {unit}").strip()

    def pid(self) -> str:
        """Main process of the server, 0 where there is none."""
        return self.sh("systemctl show --value --property=MainPID monai-label.service").strip()

    def health(self, path: str) -> tuple[int, dict[str, Any]]:
        """What kiln-health answers: status and body."""
        program = (
            "import sys; sys.path.insert(0, '/usr/local/lib/kiln'); from kiln_instance import wire; "
            f"status, body = wire.exchange('/run/kiln-health/http.sock', 'GET', '{path}', seconds=30); "
            "print(status, body.decode())"
        )
        status, _, body = self.sh(f"python3 -c {shlex.quote(program)}").partition(" ")
        return int(status), json.loads(body)

    def mounted(self) -> bool:
        return f" {POINT} " in self.sh("cat /proc/mounts")

    def bare(self) -> None:
        """See that the bare mount point takes nothing, from nobody."""
        assert not self.mounted()
        assert self.sh(f"stat --format='%a %u %g' {POINT}").split() == ["0", "0", "0"]
        for command in (f"touch {POINT}/x", f"mkdir {POINT}/default", f"mv /etc/hostname {POINT}/"):
            assert "Operation not permitted" in self.fails(command)
        assert self.sh(f"ls -A {POINT}") == ""

    def lacks_server(self) -> None:
        """See that the server does not start, and that the reason is at hand."""
        # systemd stops one that ran with local studies, as soon as it has read the settings.
        wait("the server's end", lambda: self.active("monai-label.service") in ("inactive", "failed"))
        self.fails("systemctl start monai-label.service")
        assert self.active("monai-label.service") in ("inactive", "failed")
        self.bare()


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    # As the root of an EFS is: others may pass.
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def server(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with nfs_server.serve(export, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def real(guest: Guest) -> bool:
    """Whether the image has the real server."""
    # systemctl fails where it lists nothing, and that is the answer.
    return guest.run("systemctl list-unit-files --no-legend monai-label.service || true").strip() != ""


@pytest.fixture(scope="module")
def client(guest: Guest, server: Server, real: bool) -> Client:
    made = Client(guest, server)
    made.sh(f"echo {nfs_server.GUEST_SEES} {NAME} >> /etc/hosts")
    made.put("/etc/kiln/test-ca.pem", server.authority.file.read_text())
    if not real:
        made.sh(f"useradd --uid {ID} --user-group monai-label")
        made.put("/etc/systemd/system/monai-label.service", STAND_IN)
        made.sh("systemctl daemon-reload")
    return made


def accepted(server: Server) -> int:
    """Connections that the server's TLS side has seen."""
    return (server.work / "stunnel.log").read_text().count("accepted connection")


def test_without_settings_nothing_of_it_runs(client: Client) -> None:
    for unit in ("kiln-efs", "kiln-efs-tunnel", "kiln-efs-check", "mnt-studies.mount"):
        assert client.active(unit) == "inactive", unit
    assert "local" in client.sh("kiln-efs status")
    # By the boot alone: nothing has tried to mount.
    client.bare()
    assert ":006F " not in client.sh("cat /proc/net/tcp /proc/net/tcp6 | cut -d' ' -f1-6"), "rpcbind listens"


def test_never_mounted_the_server_does_not_start(client: Client) -> None:
    client.server.stop()
    client.configure()
    said = client.until("waiting", "does not answer")
    assert NAME in said["what"] and "mount target" in said["do"]
    client.lacks_server()
    shown = client.sh("systemctl status kiln-efs --no-pager; kiln-efs status")
    assert "the server waits for them" in shown and "does not answer" in shown
    assert "Dependency failed" in client.sh("journalctl -b -u monai-label -u mnt-studies.mount --no-pager")


def test_wrong_settings_are_named_and_fail_closed(client: Client) -> None:
    client.put("/etc/kiln/efs.env", "EFS_HOST=fs-1;reboot\n")
    # It must fail; how is asked below.
    client.sh("systemctl daemon-reload; systemctl restart kiln-efs || true")
    said = client.until("given-up", "is not a host name")
    assert "/etc/kiln/efs.env" in said["do"]
    client.lacks_server()


def test_certificate_of_another_host_is_refused(client: Client) -> None:
    client.server.start(name="fs-99999999.efs.test")
    client.configure()
    client.until("waiting", "certificate")
    before, began = accepted(client.server), time.monotonic()
    client.lacks_server()
    time.sleep(30)
    attempts, minutes = accepted(client.server) - before, (time.monotonic() - began) / 60
    assert attempts <= 12 + 12 * minutes, f"{attempts} connections in {minutes:.1f} minutes"
    assert "mismatch" in client.status()["what"]
    # The tunnel's own verdict, without the watcher's: it checks as well, and it is what guards the data.
    assert "certificate verify failed" in client.sh("journalctl -b -u kiln-efs-tunnel --no-pager")


def test_certificate_of_another_authority_is_refused(client: Client, tmp_path: Path) -> None:
    client.server.stop()
    client.server.start(authority=Authority(tmp_path))
    client.configure()
    said = client.until("waiting", "certificate")
    assert "EFS_CA" in said["do"]
    client.lacks_server()


def test_it_is_mounted_by_itself_and_the_server_starts(
    client: Client, guest: Guest, export: Path, real: bool
) -> None:
    client.server.stop()
    client.server.start()
    client.until("mounted")
    mount = next(line for line in client.sh("cat /proc/mounts").splitlines() if f" {POINT} " in line)
    assert {"vers=4.1", "hard", "nosuid", "nodev"} <= set(mount.split()[3].split(","))
    wait("the server", lambda: client.active("monai-label.service") in ("activating", "active"))
    folder = export / "default"
    wait("the server's folder", folder.is_dir)
    status = folder.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (ID, ID, 0o2770)
    if real:
        guest.wait_ready()
    # Made by the server itself, as its user, through its sandbox.
    written = wait("something of the server", lambda: list(folder.rglob("*")))
    assert {path.stat().st_uid for path in written} == {ID}


def test_the_server_cannot_use_the_tunnel_itself(client: Client) -> None:
    group = client.sh(f"cut -d: -f3 /proc/{client.pid()}/cgroup").strip()
    connect = 'import socket; socket.create_connection(("127.0.0.2", 20049), 5)'
    inside = f"echo $$ > /sys/fs/cgroup{group}/cgroup.procs && exec python3 -c '{connect}'"
    said = client.fails(f"sh -c {shlex.quote(inside)}")
    assert "Operation not permitted" in said or "timed out" in said, said


def test_what_is_written_is_on_the_other_side(client: Client, export: Path) -> None:
    client.sh(
        f"dd if=/dev/urandom of={POINT}/default/study bs=1M count=8 conv=fsync status=none", seconds=300
    )
    seen = client.sh(f"sha256sum < {POINT}/default/study").split()[0]
    assert hashlib.sha256((export / "default/study").read_bytes()).hexdigest() == seen


def test_nothing_is_lost_while_it_is_away(client: Client, export: Path, real: bool) -> None:
    client.put("/run/writer.py", WRITER)
    client.sh("systemd-run --quiet --unit=writer python3 /run/writer.py")

    def done() -> int:
        return int(client.sh("cat /run/writer.done 2>/dev/null || echo 0"))

    before = wait("ten records", lambda: done() >= 10 and done())
    client.server.stop()
    left = time.monotonic()
    said = client.until("away", seconds=AWAY_SECONDS)
    assert "does not answer" in said["what"] and "nothing is lost" in said["means"]
    assert client.mounted() and client.active("monai-label.service") in ("activating", "active")
    if real:
        # The load balancer looks elsewhere; Auto Scaling is told of nothing that a new instance cannot cure.
        wait("not ready", lambda: client.health("/readyz")[0] == 503)
    while (rest := AWAY_SECONDS - (time.monotonic() - left)) > 0:
        if real:
            status, said = client.health("/healthz")
            assert status == 200, f"unhealthy for what a new instance would not cure: {said}"
            # Off EC2 nobody could be told, so ask what it would tell: it counts rounds up to that.
            assert not said["aws"]["health"]["curable_rounds"], "Auto Scaling would be told"
            assert client.health("/readyz")[0] == 503
        time.sleep(min(5.0, rest))
    stuck = done()
    assert client.active("writer") == "active", "the writer has given up"
    assert stuck <= before + 60, "records were acknowledged while nobody was there to take them"
    client.server.start()
    client.until("mounted")
    if real:
        wait("ready again", lambda: client.health("/readyz")[0] == 200)
        assert client.health("/healthz")[0] == 200
    wait("more records", lambda: done() >= stuck + 10)
    client.sh("touch /run/writer.stop")
    wait("the writer's end", lambda: client.active("writer") != "active")
    assert client.active("writer") == "inactive"
    records = done()
    expected = b"".join(hashlib.sha256(str(number).encode()).digest() * 256 for number in range(records))
    assert (export / "default/records").read_bytes() == expected
    assert (
        client.sh(f"sha256sum < {POINT}/default/records").split()[0] == hashlib.sha256(expected).hexdigest()
    )
    journal = client.sh("journalctl -b -u kiln-efs --no-pager")
    assert "reads and writes wait" in journal


def test_an_unmounted_file_system_is_mounted_again(client: Client) -> None:
    before = client.pid()
    client.sh("systemctl stop mnt-studies.mount")
    client.until("mounted")
    # The server that was there without its studies must be gone.
    wait("another server", lambda: client.pid() not in ("0", before))


def test_a_path_that_is_not_there_is_named(client: Client) -> None:
    client.sh("systemctl stop kiln-efs mnt-studies.mount")
    client.configure(EFS_PATH="/nowhere")
    client.until("waiting", "cannot be mounted")
    client.lacks_server()


def test_a_boot_while_it_is_away_waits_for_it(client: Client, guest: Guest) -> None:
    client.configure()
    client.until("mounted")
    client.server.stop()
    # The power goes: -no-reboot is for guests that reboot by themselves.
    client.sh("sync")
    guest.qemu.command("set-action", reboot="reset")
    guest.qemu.command("system_reset")
    guest.ssh.close()
    guest.wait_ssh()
    client.until("waiting", "does not answer")
    guest.wait_running()
    client.lacks_server()
    client.server.start()
    client.until("mounted")
    wait("the server", lambda: client.active("monai-label.service") in ("activating", "active"))


def test_without_settings_the_studies_are_local_again(client: Client) -> None:
    client.sh("systemctl stop kiln-efs monai-label mnt-studies.mount kiln-efs-tunnel; rm /etc/kiln/efs.env")
    client.sh("systemctl daemon-reload")
    client.bare()
    assert "mnt-studies" not in client.sh("systemctl show --property=BindsTo monai-label.service")
    with pytest.raises(KilnError):
        client.sh("systemctl cat mnt-studies.mount")


def test_a_shutdown_while_it_is_away_ends(client: Client, guest: Guest) -> None:
    client.configure()
    client.until("mounted")
    client.server.stop()
    client.until("away")
    assert guest.stop(SHUTDOWN_SECONDS) == "off", "the guest hangs on a file system that is away"
