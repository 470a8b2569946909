"""labels.lost_nfs: the store alone over NFSv4.1, in a guest with two mounts of one export behind TLS.

``python -m tests.benchmarks.labels_nfs [SAVES] [SECONDS]``, on the latest proven image. Each writer has a
mount of its own (``nosharecache``: as two machines, neither sees the other's cache). One is killed by SIGKILL
halfway and started again; then the export is away for a minute while both go on. What was acknowledged is
compared in the guest, and on the other side of the export by this machine.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kiln import errors, figures, paths
from kiln.errors import KilnError, RefusedError
from scripts import nfs_server
from scripts.guest import Guest
from scripts.nfs_server import NAME, Server

COMMAND = "make bench (tests/benchmarks/labels_nfs.py)"
STORE = "cd /opt/monai-label && exec venv/bin/python -m kiln_store"
FILES = paths.ROOT / "ansible/roles/monai_label/files"
TUNNEL = ("127.0.0.2", 20049)
OPTIONS = f"vers=4.1,proto=tcp,port={TUNNEL[1]},sec=sys,hard,timeo=600,retrans=2,noresvport,nosharecache"
WRITERS = ("one", "two")
IMAGES = 10
PATIENCE = 1800.0
"""Seconds for what an emulated guest does: two hundred saves take it minutes."""


def wait(what: str, attempt: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Try until it gives something.

    Raises
    ------
    KilnError
        It did not come.
    """
    end = time.monotonic() + seconds
    while not (found := attempt()):
        if time.monotonic() > end:
            raise KilnError(f"{what} did not come within {seconds:.0f} s", "see the guest's journal")
        time.sleep(2)
    return found


class Session:
    """A guest with two mounts.

    Parameters
    ----------
    guest:
        It runs.
    server:
        The export.
    """

    def __init__(self, guest: Guest, server: Server) -> None:
        self.guest = guest
        self.server = server

    def sh(self, command: str, seconds: float = 600.0) -> str:
        """Run a command as root."""
        return self.guest.run(f"sudo sh -c {shlex.quote(command)}", seconds)

    def put(self, path: str, text: str) -> None:
        """Write a file."""
        self.sh(f"printf %s {shlex.quote(text)} > {path}")

    def mount(self) -> None:
        """Have the image's tunnel, and mount the export twice."""
        self.sh(f"echo {nfs_server.GUEST_SEES} {NAME} >> /etc/hosts")
        self.put("/etc/kiln/test-ca.pem", self.server.authority.file.read_text())
        settings = f"EFS_HOST={NAME}\nEFS_PORT={self.server.port}\nEFS_CA=/etc/kiln/test-ca.pem\n"
        self.put("/etc/kiln/efs.env", settings)
        # The server would save as well, and is not what is measured.
        self.sh("systemctl stop monai-label; systemctl daemon-reload; systemctl start kiln-efs-tunnel")
        for writer in WRITERS:
            self.sh(f"mkdir -p /mnt/{writer}")
            wait("a mount", lambda writer=writer: self._mounted(writer))
        kinds = self.sh("grep ' /mnt/' /proc/mounts")
        if kinds.count("nosharecache") != len(WRITERS) or kinds.count("vers=4.1") != len(WRITERS):
            raise KilnError(f"not two mounts of their own: {kinds}", "see OPTIONS")

    def _mounted(self, writer: str) -> bool:
        source = f"{TUNNEL[0]}:/"
        command = f"mountpoint -q /mnt/{writer} || mount -t nfs4 -o {OPTIONS} {source} /mnt/{writer}"
        return self.sh(f"{{ {command}; }} && echo yes || true").strip().endswith("yes")

    def start(self, writer: str, count: int) -> None:
        """Have a writer save what it has not yet said that it saved."""
        first = len(self.said(writer))
        words = f"save /mnt/{writer} {writer} {count - first} --first {first} --images {IMAGES}"
        inner = f"{STORE} {words} --size 20000 >> /run/{writer}.said 2>> /run/{writer}.err"
        self.sh(f"systemd-run --quiet --collect --unit=writer-{writer} sh -c {shlex.quote(inner)}")

    def said(self, writer: str) -> list[dict[str, Any]]:
        """What a writer has said that it saved; a line that was cut off says nothing."""
        text = self.sh(f"cat /run/{writer}.said 2>/dev/null || true")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]

    def active(self, writer: str) -> bool:
        """Whether a writer runs."""
        state = self.sh(f"systemctl show --value --property=ActiveState writer-{writer}").strip()
        return state in ("active", "activating")

    def kill(self, writer: str) -> None:
        """Kill a writer, and see that it is gone; a line that it did not end is taken away."""
        self.sh(f"systemctl kill --signal=SIGKILL writer-{writer}")
        wait("its end", lambda: not self.active(writer))
        whole = "".join(f"{json.dumps(row)}\n" for row in self.said(writer))
        self.put(f"/run/{writer}.said", whole)

    def verify(self) -> dict[str, Any]:
        """Compare what is there with what was acknowledged, by a mount that has seen nothing of it."""
        files = " ".join(f"/run/{writer}.said" for writer in WRITERS)
        for writer in WRITERS:
            self.sh(f"umount /mnt/{writer}")
        wait("a mount", lambda: self._mounted(WRITERS[0]))
        said = self.sh(f"{STORE} verify /mnt/{WRITERS[0]} {files} || true").splitlines()
        found: dict[str, Any] = json.loads(said[-1])
        return found


def campaign(session: Session, saves: int, away: float) -> list[dict[str, Any]]:
    """Run the writers; what they have said that they saved.

    Parameters
    ----------
    saves:
        Of each writer.
    away:
        Seconds for which the export is gone.

    Raises
    ------
    KilnError
        A writer ended otherwise than it should, or went on without the export.
    """
    session.sh(f"{STORE} images /mnt/{WRITERS[0]} {IMAGES}")
    for writer in WRITERS:
        session.start(writer, saves)
    victim = WRITERS[1]
    wait("half of the saves", lambda: len(session.said(victim)) >= saves // 2)
    session.kill(victim)
    session.start(victim, saves)
    wait("some more saves", lambda: len(session.said(victim)) >= saves // 2 + saves // 20)
    session.server.stop()
    time.sleep(away / 2)
    stuck = [len(session.said(writer)) for writer in WRITERS]
    time.sleep(away / 2)
    if [len(session.said(writer)) for writer in WRITERS] != stuck or saves in stuck:
        raise KilnError(f"saves were acknowledged while the export was away: {stuck}", "see kiln_store")
    session.server.start()
    for writer in WRITERS:
        wait(f"the end of {writer}", lambda writer=writer: not session.active(writer))
        if len(session.said(writer)) != saves:
            words = session.sh(f"tail -n 5 /run/{writer}.err")
            raise KilnError(
                f"{writer} saved {len(session.said(writer))} of {saves}: {words}", "see kiln_store"
            )
    return [row for writer in WRITERS for row in session.said(writer)]


def other_side(export: Path, said: list[dict[str, Any]], work: Path) -> dict[str, Any]:
    """Compare what the export holds, without NFS, with what was acknowledged."""
    (work / "said").write_text("".join(f"{json.dumps(row)}\n" for row in said))
    done = subprocess.run(
        [sys.executable, "-m", "kiln_store", "verify", export, work / "said"],
        cwd=FILES, capture_output=True, text=True,
    )  # fmt: skip
    if not done.stdout:
        raise KilnError(f"the export cannot be read: {done.stderr[-300:]}", "see kiln_store")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(saves: int, away: float) -> None:
    """Measure, print, write the figure."""
    disk = paths.build_dir() / "monai-label/latest/image.qcow2"
    with tempfile.TemporaryDirectory(prefix="kiln-nfs-") as name:
        folders = {part: Path(name, part) for part in ("export", "server", "guest")}
        for folder in folders.values():
            folder.mkdir()
        # As the root of an EFS is: others may pass.
        folders["export"].chmod(0o755)
        with (
            nfs_server.serve(folders["export"], folders["server"]) as server,
            Guest(
                disk.resolve(), folders["guest"], folders["guest"] / "serial.log", online=True, progress=print
            ) as guest,
        ):
            guest.wait_ssh()
            guest.wait_running()
            session = Session(guest, server)
            session.mount()
            said = campaign(session, saves, away)
            found = [session.verify(), other_side(folders["export"], said, folders["guest"])]
    if any(each["acknowledged"] != len(WRITERS) * saves for each in found):
        raise RefusedError(f"not all saves were looked for: {found}", "see the writers' lines")
    lost = max(len(each["lost"]) + len(each["wrong"]) for each in found)
    print(f"{len(said)} acknowledged, {lost} lost or wrong, {found[0]['earlier']} earlier versions")
    figures.write("labels.lost_nfs", lost, COMMAND)


if __name__ == "__main__":
    given = dict(enumerate(map(int, sys.argv[1:])))
    sys.exit(errors.main(lambda: main(given.get(0, 200), given.get(1, 60))))
