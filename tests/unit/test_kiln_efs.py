"""The program that reaches EFS: with a real TLS server that answers as NFS does, and a real mount point."""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiln import paths
from scripts.nfs_server import NAME, Authority

FILES = paths.ROOT / "ansible/roles/efs_client/files"
sys.path.insert(0, str(FILES))

from kiln_efs import point, probe, settings, watch  # noqa: E402
from kiln_efs.settings import Image, Settings, TroubleError  # noqa: E402

IMAGE = Image("/mnt/studies", ("monai-label.service",), 10001, tunnel=False)
"""Without a tunnel the program asks the file system directly."""


def test_settings_are_read() -> None:
    text = f"# where\n\nEFS_HOST={NAME}\nEFS_PATH = /wards/a\nEFS_FOLDER=spleen\n"
    assert settings.parse(text + "EFS_PORT=2050\nEFS_CA=/etc/ca.pem\n") == Settings(
        NAME, 2050, "/wards/a", "spleen", "/etc/ca.pem"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not set EFS_HOST"),
        ("EFS_HOST=", "is not a host name"),
        ("EFS_HOST=a b", "is not a host name"),
        ("EFS_HOST=a\nEFS_PORT=70000", "is not a port"),
        ("EFS_HOST=a\nEFS_PATH=/a/../b", "is not an absolute path"),
        ("EFS_HOST=a\nEFS_PATH=/a%i", "is not an absolute path"),
        ("EFS_HOST=a\nEFS_FOLDER=/a", "is not a relative path"),
        ("EFS_HOST=a\nEFS_FOLDER=..", "is not a relative path"),
        ("EFS_HSOT=a", "EFS_HSOT=a"),
        ("a line", "a line"),
    ],
)
def test_what_cannot_be_meant_is_named(text: str, words: str) -> None:
    with pytest.raises(TroubleError) as caught:
        settings.parse(text)
    assert words in caught.value.what
    assert caught.value.do
    assert not caught.value.passing


class Nfs(threading.Thread):
    """Answers TLS, and then a call as NFS would, or not."""

    def __init__(self, certificate: bytes, folder: Path, answer: Callable[[bytes], bytes]) -> None:
        super().__init__(daemon=True)
        pem = folder / "server.pem"
        pem.write_bytes(certificate)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem)
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.start()

    def run(self) -> None:
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            try:
                with self.context.wrap_socket(plain, server_side=True) as channel:
                    if call := channel.recv(256):
                        channel.sendall(self.answer(call))
            except OSError:
                pass


def granted(call: bytes) -> bytes:
    """What an NFS server says to a call that does nothing."""
    return (24 | 0x80000000).to_bytes(4, "big") + call[4:8] + (1).to_bytes(4, "big") + bytes(16)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


Serve = Callable[..., Settings]


@pytest.fixture
def serve(tmp_path: Path, authority: Authority) -> Iterator[Serve]:
    """Serves on localhost, by a certificate for the name, and returns settings that lead there."""
    servers = []

    def start(name: str = "localhost", answer: Callable[[bytes], bytes] = granted) -> Settings:
        servers.append(Nfs(authority.certificate(name), tmp_path, answer))
        return Settings("localhost", servers[-1].port, ca=str(authority.file))

    yield start
    for server in servers:
        server.listener.close()


def trouble(found: Settings) -> TroubleError:
    with pytest.raises(TroubleError) as caught:
        probe.ask(found, tunnel=False)
    return caught.value


def test_an_nfs_server_answers(serve: Serve) -> None:
    probe.ask(serve(), tunnel=False)


def test_another_hosts_certificate_is_refused(serve: Serve) -> None:
    found = trouble(serve("fs-99999999.efs.test"))
    assert "mismatch" in found.what and not found.passing


def test_another_authoritys_certificate_is_refused(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    found = serve()
    found = trouble(Settings(found.host, found.port, ca=str(Authority(tmp_path / "other").file)))
    assert "certificate" in found.what and "EFS_CA" in found.do and not found.passing


def test_what_answers_but_is_not_nfs_is_told(serve: Serve) -> None:
    found = trouble(serve(answer=lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\nnothing"))
    assert "not NFS" in found.what


def test_a_dead_port_may_come_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = trouble(Settings("127.0.0.1", port))
    assert "does not answer (Connection refused)" in found.what and found.passing


def test_a_missing_certificate_file_is_named() -> None:
    found = trouble(Settings("127.0.0.1", 9, ca="/nowhere/ca.pem"))
    assert "EFS_CA=/nowhere/ca.pem" in found.what and not found.passing


def test_the_tunnel_is_blamed_only_where_the_file_system_answers(serve: Serve) -> None:
    found = serve()
    with pytest.raises(TroubleError, match="answers, and the tunnel to it does not"):
        probe.ask(found, tunnel=True)


def flags(path: Path, change: int | None = None) -> int:
    handle = os.open(path, os.O_RDONLY)
    try:
        word = array.array("L", [0])
        fcntl.ioctl(handle, point.GET_FLAGS, word)
        if change is not None:
            fcntl.ioctl(handle, point.SET_FLAGS, array.array("L", [change]))
        return word[0]
    finally:
        os.close(handle)


@pytest.mark.root
def test_a_sealed_mount_point_takes_nothing_from_root(tmp_path: Path) -> None:
    place = tmp_path / "studies"
    place.mkdir(mode=0o755)
    point.seal(place)
    try:
        point.seal(place)  # a second time is no error
        assert place.stat().st_mode & 0o7777 == 0
        with pytest.raises(PermissionError):
            (place / "x").write_text("")
        with pytest.raises(PermissionError):
            (place / "x").mkdir()
        with pytest.raises(PermissionError):
            place.rmdir()
    finally:
        flags(place, flags(place) & ~point.IMMUTABLE)
    assert list(place.iterdir()) == []


@pytest.mark.root
def test_a_mount_point_that_only_has_the_flag_is_closed_too(tmp_path: Path) -> None:
    place = tmp_path / "studies"
    place.mkdir(mode=0o755)
    os.chown(place, 1, 1)
    flags(place, flags(place) | point.IMMUTABLE)
    try:
        point.seal(place)
        status = place.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0, 0, 0)
        assert flags(place) & point.IMMUTABLE
    finally:
        flags(place, flags(place) & ~point.IMMUTABLE)


@pytest.mark.root
@pytest.mark.parametrize("flag", [0, point.IMMUTABLE])
def test_files_beneath_the_mount_are_not_hidden(flag: int, tmp_path: Path) -> None:
    place = tmp_path / "studies"
    place.mkdir()
    (place / "lost.dcm").write_text("")
    flags(place, flags(place) | flag)
    try:
        with pytest.raises(TroubleError, match=r"lost\.dcm.*chattr -i"):
            point.seal(place)
    finally:
        flags(place, flags(place) & ~point.IMMUTABLE)


def test_a_file_system_without_the_flag_is_refused() -> None:
    with pytest.raises(TroubleError, match="cannot be made immutable"):
        point.seal(Path("/proc/self/task"))


TABLE = """\
24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
60 24 0:50 / /mnt/studies rw,nosuid,nodev shared:40 - nfs4 127.0.0.2:/ rw,vers=4.1,hard
61 24 0:51 / /mnt/other rw shared:41 - tmpfs tmpfs rw
"""


def test_mounts_are_read_from_the_kernels_table(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert [point.mounted(path, table) for path in ("/mnt/studies", "/mnt/other", "/mnt")] == [
        "nfs4",
        "tmpfs",
        "",
    ]


def test_the_servers_folder_needs_a_mount() -> None:
    with pytest.raises(TroubleError, match="is not mounted"):
        point.folder(Settings(), IMAGE)


class EnoughError(Exception):
    """Ends a watch that has no end."""


def watched(found: Settings, tmp_path: Path, most: int) -> tuple[list[float], dict[str, Any], Exception]:
    """Pauses of a watch, what its file says at its end, and how that came."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == most:
            raise EnoughError

    report = watch.Report(tmp_path / "efs.json")
    try:
        end: Exception = watch.watch(found, IMAGE, report, sleep)
    except EnoughError as enough:
        end = enough
    said: dict[str, Any] = json.loads((tmp_path / "efs.json").read_text())
    return pauses, said, end


def test_what_is_refused_is_given_up(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses, said, end = watched(serve("fs-99999999.efs.test"), tmp_path, 100)
    assert isinstance(end, TroubleError) and "mismatch" in end.what
    assert (said["state"], said["attempts"]) == ("given-up", watch.REFUSALS)
    assert said["do"] and said["since"]
    assert len(pauses) == watch.REFUSALS - 1 and pauses == sorted(pauses)
    assert max(pauses) == watch.PAUSE_MOST
    # The journal hears of each state once, however often it was tried.
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_what_is_away_is_waited_for_without_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pauses, said, end = watched(Settings("127.0.0.1", 9), tmp_path, 50)
    assert isinstance(end, EnoughError)
    assert (said["state"], said["attempts"]) == ("waiting", 50)
    assert max(pauses) == watch.PAUSE_MOST
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_new_watcher_takes_back_what_an_earlier_one_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By systemctl restart's end the file is either new or gone: a stale "mounted" was believed once."""
    (tmp_path / "efs.json").write_text('{"state": "mounted", "what": ""}')
    there: dict[str, bool] = {}
    monkeypatch.setattr(
        watch, "notify", lambda said: there.setdefault(said, (tmp_path / "efs.json").exists())
    )
    _, said, _ = watched(Settings("127.0.0.1", 9), tmp_path, 1)
    assert there["READY=1"] is False
    assert said["state"] == "waiting"
