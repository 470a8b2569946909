"""What stands for a Windows instance's WinRM: https with a certificate of its own, and a shell that answers.

It speaks as much of WS-Management as Packer asks before it calls Ansible: a shell is made, a command is run
in it, what it printed is received, the shell is deleted ([MS-WSMV], 3.1.4). All print the same line.
"""

from __future__ import annotations

import base64
import datetime
import http.server
import re
import ssl
import threading
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PRINTED = "WinRM connected.\r\n"
"""What Packer looks for."""

SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
IDENT = "11111111-2222-3333-4444-555555555555"

ANSWERS = {
    f"{TRANSFER}/Create": f'<w:Selector Name="ShellId">{IDENT}</w:Selector>',
    f"{SHELL}/Command": f"<rsp:CommandResponse><rsp:CommandId>{IDENT}</rsp:CommandId></rsp:CommandResponse>",
    f"{SHELL}/Receive": (
        f'<rsp:ReceiveResponse><rsp:Stream Name="stdout" CommandId="{IDENT}">'
        f"{base64.b64encode(PRINTED.encode()).decode()}</rsp:Stream>"
        f'<rsp:CommandState CommandId="{IDENT}" State="{SHELL}/CommandState/Done">'
        "<rsp:ExitCode>0</rsp:ExitCode></rsp:CommandState></rsp:ReceiveResponse>"
    ),
    f"{SHELL}/Signal": "<rsp:SignalResponse/>",
    f"{SHELL}/Send": "<rsp:SendResponse/>",
    f"{TRANSFER}/Delete": "",
}
"""Action → body of the answer."""

ENVELOPE = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"'
    f' xmlns:rsp="{SHELL}"><s:Header/><s:Body>%s</s:Body></s:Envelope>'
)


def certificate(folder: Path) -> Path:
    """Write a key and a certificate that nobody signed; return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "EC2AMAZ-KILN")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    path = folder / "winrm.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class WinRM:
    """The listener, as a context manager.

    Parameters
    ----------
    folder:
        For the certificate.

    Attributes
    ----------
    port:
        On 127.0.0.1.
    actions:
        What was asked, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.actions: list[str] = []
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                found = re.search(r"<(?:\w+:)?Action[^>]*>([^<]+)<", asked)
                action = found[1].strip() if found else ""
                listener.actions.append(action)
                body = (ENVELOPE % ANSWERS.get(action, "")).encode()
                self.send_response(200 if action in ANSWERS else 500)
                self.send_header("Content-Type", "application/soap+xml;charset=UTF-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(folder))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> WinRM:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
