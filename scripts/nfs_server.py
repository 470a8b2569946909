"""A stand-in for EFS on this machine: nfs-ganesha behind TLS, on 127.0.0.1 alone.

``python -m scripts.nfs_server FOLDER`` serves a folder until Ctrl-C and says how a guest reaches it. Both
servers run from a small Debian of their own, kept in the cache, so that nothing is installed on this machine;
each in a mount namespace of its own, and the kernel ends both with the thread that started them.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kiln import errors, paths
from kiln.errors import KilnError
from scripts import engine, layer, mirrors, port, proc

PACKAGES = ("nfs-ganesha", "nfs-ganesha-vfs", "stunnel4")

NAME = "fs-12345678.efs.test"
"""Host name in the certificate, of the shape that EFS has."""

GUEST_SEES = "10.0.2.2"
"""This machine's 127.0.0.1, as QEMU's user network shows it to a guest."""

START_SECONDS = 60.0

_OVERLAYFS = 0x794C7630

GANESHA = """\
NFS_CORE_PARAM {{
  Protocols = 4; NFS_Port = {port}; Bind_addr = 127.0.0.1;
  Enable_NLM = false; Enable_RQUOTA = false; mount_path_pseudo = true;
}}
NFSV4 {{
  Minor_Versions = 1; Grace_Period = 5; Lease_Lifetime = 10;
  RecoveryBackend = fs; Only_Numeric_Owners = true;
}}
NFS_KRB5 {{ Active_krb5 = false; }}
EXPORT {{
  Export_Id = 1; Path = /srv/efs; Pseudo = /; Protocols = 4; Transports = TCP;
  Access_Type = RW; Squash = No_Root_Squash; SecType = sys; FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""

STUNNEL = """\
foreground = yes
syslog = no
pid =
debug = notice
[efs]
accept = 127.0.0.1:{tls}
connect = 127.0.0.1:{plain}
cert = /srv/settings/server.pem
sslVersionMin = TLSv1.2
"""


def root() -> Path:
    """Root folder with both servers, from the cache or newly made.

    Raises
    ------
    KilnError
        It cannot be made.
    """
    cache = paths.cache_dir() / "nfs-server"
    cache.mkdir(parents=True, exist_ok=True)
    made = cache / hashlib.sha256(" ".join([*mirrors.SUITES, *PACKAGES]).encode()).hexdigest()[:16]
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=cache) as half:
                _make(Path(half) / "root", Path(half), cache / "make.log")
                (Path(half) / "root").rename(made)
    return made


def _make(folder: Path, work: Path, log: Path) -> None:
    sources, settings = mirrors.for_mmdebstrap(work)
    command: list[str | Path] = ["mmdebstrap", "--variant=essential", "--format=directory"]
    command += [f"--include={','.join(PACKAGES)}", "--dpkgopt=force-unsafe-io", f"--aptopt={settings}"]
    proc.run([*command, mirrors.SUITES[0], folder, sources], log, what="making the root of the NFS server")


class Authority:
    """A throw-away certificate authority.

    Parameters
    ----------
    folder:
        Existing folder for its certificate, which clients trust, at :attr:`file`.
    """

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Kiln test authority")])
        certificate = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.file = folder / "ca.pem"
        self.file.write_bytes(certificate)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType
    ) -> bytes:
        today = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            # A guest's clock may be off by hours before chrony has set it.
            .not_valid_before(today - datetime.timedelta(days=1))
            .not_valid_after(today + datetime.timedelta(days=7))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def certificate(self, name: str) -> bytes:
        """Certificate for a host name with its key, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._sign(subject, key, x509.SubjectAlternativeName([x509.DNSName(name)])) + private


class Server:
    """The stand-in, which can go away and come back at the same address.

    Use it as a context manager, and from a thread that lives as long as it is wanted.

    Parameters
    ----------
    export:
        Existing folder that is served; not on an overlay, which ganesha cannot export.
    work:
        Existing folder for its settings, logs and state.

    Attributes
    ----------
    authority:
        Who signs its certificate.
    port:
        Of TLS, on 127.0.0.1.
    """

    def __init__(self, export: Path, work: Path) -> None:
        self.export = export
        self.work = work
        self.authority = Authority(work)
        self.port, self._plain = port.free(), port.free()
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Server:
        engine.need_root("the NFS server")
        done = proc.output(
            ["stat", "--file-system", "--format=%t", self.export], what="looking at the export"
        )
        if int(done, 16) == _OVERLAYFS:
            raise KilnError(f"{self.export} is on an overlay", "serve a folder of a real file system")
        (self.work / "ganesha.conf").write_text(GANESHA.format(port=self._plain))
        (self.work / "stunnel.conf").write_text(STUNNEL.format(tls=self.port, plain=self._plain))
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str = NAME, authority: Authority | None = None) -> None:
        """Serve; the file system is there when this returns.

        Parameters
        ----------
        name:
            Host name in the certificate.
        authority:
            Who signs it, by default the one that clients trust.

        Raises
        ------
        KilnError
            It does not answer.
        """
        signer = authority or self.authority
        secret = self.work / "server.pem"
        secret.touch(mode=0o600)
        secret.write_bytes(signer.certificate(name))
        programs = {
            "ganesha": ["ganesha.nfsd", "-F", "-L", "STDERR", "-f", "/srv/settings/ganesha.conf"],
            "stunnel": ["stunnel4", "/srv/settings/stunnel.conf"],
        }
        try:
            for program, command in programs.items():
                self._children.append(self._run(program, command))
            self._wait(name, signer)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Go away without a word, as a machine does that loses power."""
        for child in self._children:
            child.kill()
            child.wait()
        self._children.clear()

    def _run(self, program: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        place = self.work / f"layer-{program}"
        inner: list[str | Path] = [sys.executable, "-m", "scripts.nfs_server", "--inside"]
        inner += [layer.merged(place), self.export, self.work, *command]
        with (self.work / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                layer.command(root(), place, inner),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=paths.ROOT,
                process_group=0,
                preexec_fn=proc.die_with_parent(signal.SIGKILL),
            )

    def _wait(self, name: str, signer: Authority) -> None:
        context = ssl.create_default_context(cafile=str(signer.file))
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with (
                    socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain,
                    context.wrap_socket(plain, server_hostname=name) as channel,
                ):
                    _call(channel)
                    return
            except OSError as error:
                ended = [child for child in self._children if child.poll() is not None]
                if ended or time.monotonic() > deadline:
                    raise KilnError(
                        f"the NFS server does not answer: {error}", f"read {self.work}/*.log"
                    ) from None
            time.sleep(0.2)


def _call(channel: socket.socket) -> None:
    """Call NFS's procedure NULL (RFC 5531): a port that listens proves nothing."""
    call = struct.pack(">10I", 1, 0, 2, 100003, 4, 0, 0, 0, 0, 0)
    channel.sendall(struct.pack(">I", 0x80000000 | len(call)) + call)
    if channel.recv(64)[4:12] != struct.pack(">2I", 1, 1):
        raise ConnectionError("no answer of NFS")


def inside(arguments: Sequence[str]) -> None:
    """In the mount namespace of a layer: lend it the export and the settings, then become the server."""
    merged, export, work = (Path(name) for name in arguments[:3])
    for source, target in ((export, "srv/efs"), (work, "srv/settings"), (Path("/dev"), "dev")):
        (merged / target).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", source, merged / target], check=True)
    os.chroot(merged)
    os.chdir("/")
    Path("/run/ganesha").mkdir(exist_ok=True)
    os.execvp(arguments[3], list(arguments[3:]))


@contextlib.contextmanager
def serve(export: Path, place: Path) -> Iterator[Server]:
    """Serve a folder, with a work folder that is gone afterwards.

    Parameters
    ----------
    export:
        Existing folder.
    place:
        Existing folder in which the work folder is made.
    """
    work = Path(tempfile.mkdtemp(prefix="nfs-", dir=place))
    try:
        with Server(export, work) as server:
            yield server
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main() -> int:
    """Serve a folder until Ctrl-C.

    Returns
    -------
    int
        0.
    """
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise errors.UsageError("python -m scripts.nfs_server takes one folder", "name one that exists")
    with serve(Path(sys.argv[1]).resolve(), Path(tempfile.gettempdir())) as server:
        print(f"in a guest: {GUEST_SEES} {NAME} in /etc/hosts, EFS_HOST={NAME}, EFS_PORT={server.port}")
        print(f"EFS_CA is a copy of {server.authority.file}; end by Ctrl-C")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2:])
    sys.exit(errors.main(main))
