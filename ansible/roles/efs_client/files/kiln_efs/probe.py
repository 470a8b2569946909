"""Whether the file system answers, asked beside the mount: what touches that one waits with it."""

from __future__ import annotations

import os
import socket
import ssl
import struct

from kiln_efs.settings import Settings, TroubleError
from kiln_efs.units import ADDRESS, PORT

SECONDS = 5.0
"""How long one attempt may take for each of its steps."""

# RFC 5531: a call (0) by RPC version 2 of NFS (100003) version 4, procedure NULL (0), no credentials.
_CALL = struct.pack(">9I", 0, 2, 100003, 4, 0, 0, 0, 0, 0)
_LAST_FRAGMENT = 0x80000000

SIGHT = "see that the file system has a mount target in this zone that lets this machine reach its port"


def null_call(channel: socket.socket) -> None:
    """Call NFS's procedure that does nothing: only an NFS server answers it.

    Raises
    ------
    OSError
        No answer, or not NFS's.
    """
    number = os.urandom(4)
    body = number + _CALL
    channel.sendall(struct.pack(">I", _LAST_FRAGMENT | len(body)) + body)
    answer = b""
    while len(answer) < 28:
        if not (more := channel.recv(256)):
            raise ConnectionError("it closed the connection")
        answer += more
    # After the length: the call's number, reply (1), accepted (0), two words of no credentials, success (0).
    if answer[4:8] != number or answer[8:28] != struct.pack(">5I", 1, 0, 0, 0, 0):
        raise ConnectionError("its answer is not NFS")


def through_tunnel() -> None:
    """Ask the way that the mount goes.

    Raises
    ------
    OSError
        No answer.
    """
    with socket.create_connection((ADDRESS, PORT), timeout=SECONDS) as channel:
        null_call(channel)


def directly(settings: Settings) -> None:
    """Ask by a connection of our own, which knows why it fails.

    Raises
    ------
    TroubleError
        No answer, with the reason.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or "no certificate in it"
        raise TroubleError(
            f"EFS_CA={settings.ca} cannot be used: {why}", "name a file of PEM certificates"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        with (
            socket.create_connection((settings.host, settings.port), timeout=SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=settings.host) as channel,
        ):
            null_call(channel)
    except socket.gaierror:
        raise TroubleError(
            f"the name {settings.host} cannot be resolved",
            "check EFS_HOST, and that the network has its DNS names enabled",
            passing=True,
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise TroubleError(
            f"the certificate of {where} is refused: {error.verify_message.rstrip('.')}",
            "EFS_HOST must be the name in the certificate and EFS_CA hold who signed it; nothing was sent",
        ) from None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        raise TroubleError(f"{where} closed the connection", SIGHT, passing=True) from None
    except ssl.SSLError as error:
        raise TroubleError(
            f"{where} does not speak TLS 1.2 or newer ({error.reason})", "check EFS_HOST and EFS_PORT"
        ) from None
    except OSError as error:
        why = error.strerror or str(error)
        raise TroubleError(f"{where} does not answer ({why})", SIGHT, passing=True) from None


def ask(settings: Settings, *, tunnel: bool) -> None:
    """See that the file system answers.

    Parameters
    ----------
    settings:
        Where it is.
    tunnel:
        Whether the mount goes through our tunnel.

    Raises
    ------
    TroubleError
        It does not.
    """
    if not tunnel:
        directly(settings)
        return
    try:
        through_tunnel()
    except OSError:
        directly(settings)
        raise TroubleError(
            f"{settings.host} answers, and the tunnel to it does not",
            "journalctl -u kiln-efs-tunnel says why",
            passing=True,
        ) from None
