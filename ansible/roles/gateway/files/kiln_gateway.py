"""Where nginx listens, whom it believes, how long it waits: from /etc/kiln/gateway.json, before each start.

An image does not know its certificate: it comes with the settings of an instance. Both files given: TLS on
the one port. Neither: HTTP on the other, for a load balancer that ends TLS itself. One without the other, or
one that is not there, ends the start: an instance must not fall back to clear text because a secret did not
arrive.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/kiln/gateway.json")

HOUR, DAY = 3600, 86_400

TLS = """\
ssl_certificate {certificate};
ssl_certificate_key {certificate_key};
ssl_protocols TLSv1.2 TLSv1.3;
ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305;
ssl_prefer_server_ciphers off;
ssl_session_cache shared:tls:1m;
ssl_session_timeout 1d;
ssl_session_tickets off;
"""

REAL = """\
real_ip_header X-Forwarded-For;
real_ip_recursive on;
"""

KEYS = {
    "http_port": int,
    "https_port": int,
    "certificate": str,
    "certificate_key": str,
    "trusted_proxies": list,
    "response_timeout": int,
}


class WrongError(Exception):
    """The settings cannot be meant."""


def _word(path: str) -> str:
    """Path of a file that is there, safe in nginx's configuration."""
    if not Path(path).is_absolute() or any(letter in path for letter in " \t\r\n;{}'\"\\$#"):
        raise WrongError(f"{path!r} is no absolute path without spaces and quotes")
    if not Path(path).is_file():
        raise WrongError(f"{path} is not there")
    return path


def render(settings: dict[str, Any], ipv6: bool) -> str:
    """Return what nginx includes in its server.

    Parameters
    ----------
    settings:
        See :data:`KEYS`.
    ipv6:
        Whether the machine has IPv6; nginx does not start where it is told to listen on what is not there.

    Raises
    ------
    WrongError
        They cannot be meant.
    """
    if not isinstance(settings, dict) or set(settings) != set(KEYS):
        raise WrongError(f"it must have exactly {', '.join(KEYS)}")
    if wrong := [name for name, kind in KEYS.items() if type(settings[name]) is not kind]:
        raise WrongError(f"{wrong[0]} is no {KEYS[wrong[0]].__name__}")
    certificate, key = settings["certificate"], settings["certificate_key"]
    if bool(certificate) != bool(key):
        raise WrongError("certificate and certificate_key go together")
    port = settings["https_port" if certificate else "http_port"]
    if not 0 < port < 65536:
        raise WrongError(f"{port} is no port")
    seconds = settings["response_timeout"]
    if not 0 < seconds <= DAY + HOUR:
        raise WrongError(f"response_timeout: {seconds} is no number of seconds up to a day and an hour")
    listen = f"{port} {'ssl ' if certificate else ''}default_server"
    lines = [f"listen {listen};\n", *([f"listen [::]:{listen};\n"] if ipv6 else [])]
    # As long as an inference may last by the settings of this instance.
    lines.append(f"proxy_read_timeout {seconds}s;\n")
    if certificate:
        lines.append(TLS.format(certificate=_word(certificate), certificate_key=_word(key)))
    try:
        networks = [ipaddress.ip_network(proxy) for proxy in settings["trusted_proxies"]]
    except ValueError as problem:
        raise WrongError(f"trusted_proxies: {problem}") from None
    if networks:
        lines += [*(f"set_real_ip_from {network};\n" for network in networks), REAL]
    return "".join(lines)


def main(arguments: list[str]) -> int:
    """Write the file that the first argument names; return the exit code.

    Its settings are the second argument's, or those that KILN_GATEWAY_SETTINGS names: what user data says.
    """
    named = arguments[1] if len(arguments) > 1 else os.environ.get("KILN_GATEWAY_SETTINGS")
    source = Path(named) if named else SETTINGS
    try:
        text = render(json.loads(source.read_text(encoding="utf-8")), Path("/proc/net/if_inet6").exists())
    except (OSError, ValueError, WrongError) as problem:
        print(f"error: {source}: {problem}", file=sys.stderr)
        print("  fix: correct it, or the settings that it is made from; then restart nginx", file=sys.stderr)
        return 1
    Path(arguments[0]).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
