"""What systemd and stunnel are told, rendered from the settings."""

from __future__ import annotations

from pathlib import Path

from kiln_efs.settings import Image, Settings

ADDRESS = "127.0.0.2"
"""Of the tunnel alone: the server may be denied this address without losing its own loopback."""

PORT = 20049

OPTIONS = {
    # hard: a write waits for the file system and never fails halfway. noresvport: a new port for each
    # connection, as AWS asks. The rest are AWS's values too.
    True: f"vers=4.1,proto=tcp,port={PORT},sec=sys,hard,timeo=600,retrans=2,noresvport,rsize=1048576,"
    "wsize=1048576,nosuid,nodev",
    False: "tls,noresvport,nosuid,nodev",
}
"""Mount options, by whether the mount goes through our stunnel."""

HEAD = "# Made by kiln-efs from /etc/kiln/efs.env.\n"

# After the server's own command line nothing of the kernel's mount may wait for the network's unit to stop.
MOUNT = """\
[Unit]
Description=Studies on EFS
DefaultDependencies=no
Conflicts=umount.target
Before=umount.target
Requires=kiln-efs-check.service
After=kiln-efs-check.service network.target local-fs.target
{tunnel}
# A mount that came late starts what was waiting for it.
Wants={consumers}

[Mount]
What={what}
Where={where}
Type={kind}
Options={options}
TimeoutSec=90
"""

TUNNEL = "Wants=kiln-efs-tunnel.service\nAfter=kiln-efs-tunnel.service"

CONSUMER = """\
[Unit]
BindsTo={mount}
After={mount}

[Service]
EnvironmentFile={environment}
ExecStartPre=+/usr/local/sbin/kiln-efs folder
# With a dash: before that command has run there may be no folder, and its own namespace is made of this too.
ReadWritePaths=-{where}/{folder}
# Whoever takes the server over cannot speak NFS as another user through the tunnel.
IPAddressDeny={address}
"""

STUNNEL = """\
foreground = yes
syslog = no
pid =
debug = warning

[efs]
client = yes
accept = {address}:{port}
connect = {settings.host}:{settings.port}
sni = {settings.host}
; The name is looked up for each connection: a mount target may move.
delay = yes
sslVersionMin = TLSv1.2
verifyChain = yes
checkHost = {settings.host}
CAfile = {settings.ca}
TIMEOUTconnect = 10
TIMEOUTbusy = 20
TIMEOUTclose = 5
; A file system that vanished without a word is noticed within two minutes.
socket = r:SO_KEEPALIVE=1
socket = r:TCP_KEEPIDLE=30
socket = r:TCP_KEEPINTVL=15
socket = r:TCP_KEEPCNT=4
"""


def stunnel(settings: Settings) -> str:
    """Configuration of the tunnel."""
    return STUNNEL.format(settings=settings, address=ADDRESS, port=PORT)


def mount(settings: Settings, image: Image) -> str:
    """The unit that mounts the file system."""
    what = f"{ADDRESS if image.tunnel else settings.host.split('.')[0]}:{settings.path}"
    return HEAD + MOUNT.format(
        tunnel=TUNNEL if image.tunnel else "",
        consumers=" ".join(image.consumers),
        what=what,
        where=image.mount_point,
        kind="nfs4" if image.tunnel else "efs",
        options=OPTIONS[image.tunnel],
    )


def write(settings: Settings, image: Image, folder: Path) -> None:
    """Write every unit that the settings ask for.

    Parameters
    ----------
    settings:
        Where the studies are.
    image:
        What the role has decided.
    folder:
        The generator's folder; systemd empties it before.
    """
    wanted = {"multi-user.target": "kiln-efs.service"}
    if image.tunnel:
        wanted["kiln-efs.service"] = "kiln-efs-tunnel.service"
    for by, unit in wanted.items():
        link = folder / f"{by}.wants/{unit}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"/etc/systemd/system/{unit}")
    (folder / image.mount_unit).write_text(mount(settings, image))
    environment = folder / "kiln-efs-server.env"
    environment.write_text(f"MONAI_LABEL_STUDIES={image.mount_point}/{settings.folder}\n")
    for consumer in image.consumers:
        drop_in = folder / f"{consumer}.d/50-efs.conf"
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text(
            HEAD
            + CONSUMER.format(
                mount=image.mount_unit,
                environment=environment,
                where=image.mount_point,
                folder=settings.folder,
                address=ADDRESS,
            )
        )
