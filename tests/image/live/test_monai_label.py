"""The MONAI Label server in a booted guest."""

from __future__ import annotations

import re
from typing import Any

from tests.image.live.units import state
from tests.image.tree import shown

Guest = dict[str, Any]

PORT = 8000
UID = "10001"
HOME = "/var/lib/monai-label"
READ_AHEAD = 100_000_000
LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp."""


def test_service_is_up_at_the_first_attempt(guest: Guest) -> None:
    unit = guest["units"].get("monai-label.service", {})
    assert unit.get("ActiveState") == "active", f"monai-label.service is {unit.get('ActiveState', 'missing')}"
    assert unit["NRestarts"] == "0", f"monai-label.service was restarted {unit['NRestarts']} times"


def test_server_answers(guest: Guest) -> None:
    status, said = guest["info"]
    assert status == 200, f"GET /info/ answered {status}: {str(said)[:200]}"
    assert said["models"], "the server has no model"


def test_server_is_reached_by_the_gateway_alone(guest: Guest) -> None:
    sockets = [line.split()[1:4:2] for line in guest["listening"].splitlines()[1:]]
    found = [
        address for address, state in sockets if state == LISTEN and int(address.split(":")[1], 16) == PORT
    ]
    # 127.0.0.1, as the kernel writes it. The server itself asks nobody who he is.
    assert found == [f"0100007F:{PORT:04X}"], f"port {PORT} is open on {shown(found) or 'no address'}"


def test_server_runs_as_its_user(guest: Guest) -> None:
    assert guest["process"].get("Uid", "").split() == [UID] * 4, (
        f"the server's uids are {guest['process'].get('Uid', 'unknown')}"
    )
    assert guest["process"]["Gid"].split() == [UID] * 4, f"the server's gids are {guest['process']['Gid']}"


def test_server_cannot_gain_privileges(guest: Guest) -> None:
    assert guest["process"].get("NoNewPrivs") == "1", "the server could gain privileges"
    sets = {name: guest["process"].get(name, "unknown") for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}
    held = [f"{name} {value}" for name, value in sets.items() if value.strip("0")]
    assert not held, f"the server holds capabilities: {shown(held)}"


def test_server_writes_to_its_own_folder_only(guest: Guest) -> None:
    mounts = re.findall(r"^\d+ \d+ \S+ \S+ (\S+) (\S+) ", guest["mounts"], re.MULTILINE)
    options = dict(mounts)
    assert options.get("/", "").startswith("ro"), f"the server sees / as {options.get('/', 'unknown')}"
    assert options.get(HOME, "").startswith("rw"), (
        f"the server sees {HOME} as {options.get(HOME, 'no mount of its own')}"
    )
    assert "/tmp" in options, "the server shares /tmp with everybody"


def test_studies_are_shared_by_group(guest: Guest) -> None:
    mode, uid, gid = guest["studies"]
    assert (mode & 0o7777, str(uid), str(gid)) == (0o2770, UID, UID), (
        f"studies are {mode & 0o7777:o} {uid}:{gid}"
    )


def test_readahead_has_read(guest: Guest) -> None:
    assert guest["readahead"], "kiln-readahead.service has left no result: it did not run to its end"
    found = state(guest, "kiln-readahead.service")
    assert found == "active", f"kiln-readahead.service is {found}"
    read = guest["readahead"]["bytes"]
    assert read > READ_AHEAD, f"the readahead read {read} bytes, fewer than torch's libraries have"
