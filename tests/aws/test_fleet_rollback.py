"""kiln apply, status and rollback of a fleet, as a user calls them, and the records that they leave."""

from __future__ import annotations

from pathlib import Path

from tests.aws import rollouts, streaming
from tests.aws.rollouts import Capture, Clients, error_of, kiln, planned
from tests.aws.streaming import FIRST, SECOND, name
from tests.aws.test_fleet import GENERAL, imported
from tests.emulator.handle import Emulator


def test_a_fleet_goes_forward_and_back_and_status_tells(
    client: Clients, emulator: Emulator, kiln_toml: Path, capsys: Capture
) -> None:
    emulator.settings(describe_seconds=300)
    ground = streaming.ground(client)
    streaming.write(kiln_toml)
    text = kiln_toml.read_text()
    group, rest = text.index("[target.annotators]"), text.index("[target.readers]")
    kiln_toml.write_text(text[:group] + text[rest:])
    streaming.import_role(client)
    for version in (FIRST, SECOND):
        imported(client, version)
    streaming.put(client, ground, image=name(FIRST), instance_type=GENERAL)
    streaming.promote(client, SECOND)

    assert kiln("rollback", "readers") == 1
    assert "no record of an apply" in error_of(capsys)[0]
    (fleet,) = planned(capsys, "status")["targets"]
    assert (fleet["version"], fleet["channel"]["version"]) == (FIRST, SECOND)
    assert any(line.startswith("image: ") for line in fleet["drift"]), fleet["drift"]

    assert kiln("apply", "readers") == 0, capsys.readouterr()
    (fleet,) = planned(capsys, "status")["targets"]
    assert (fleet["version"], fleet["drift"], fleet["last"]["outcome"]) == (SECOND, [], "done")

    assert kiln("rollback", "readers") == 0
    shown = client("appstream").describe_fleets(Names=["kiln-readers"])["Fleets"][0]
    assert shown["ImageName"] == name(FIRST)
    since = len(emulator.requests())
    assert kiln("rollback", "readers") == 0
    assert emulator.mutating(since) == []
    found = [(each["kind"], each["event"]) for each in rollouts.rollouts(client, "readers")]
    assert found == [
        ("apply", "started"),
        ("apply", "ended"),
        ("rollback", "started"),
        ("rollback", "ended"),
    ]
