"""Many clients save labels by several servers on one studies folder, one of which is killed: what is left."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.server.live import FILES, Live

sys.path.insert(0, str(FILES))

from kiln_store import earlier
from kiln_store.tree import Tree

SEED = 20240101

IMAGES = 10
"""Images of a folder; clients go round them, with another tag for each round."""

EVERYONE = "everyone"
"""A tag that all clients save, over all servers: each of them replaces what another has saved."""

SHARE = 4
"""Every fourth label of a client has it."""

SIZE = 20_000
"""Bytes of a label: what a small structure of a CT takes, compressed."""

AGAIN = 0.5
"""Seconds before a client that was not answered tries again, as a person would."""


@dataclass(frozen=True)
class Saved:
    """A label that a server has said is saved.

    Parameters
    ----------
    image, tag:
        Whose.
    writer, place:
        What was noted of it: the client, and its count.
    checksum:
        SHA-256 of what was sent.
    """

    image: str
    tag: str
    writer: str
    place: int
    checksum: str


@dataclass
class Said:
    """What came of a campaign.

    Parameters
    ----------
    acknowledged:
        What was answered by 200.
    seconds:
        From the first save to the last answer.
    looks, torn:
        How often the index was read meanwhile, and what was wrong with it.
    killed:
        Exit code of the server that was killed.
    """

    acknowledged: list[Saved] = field(default_factory=list)
    seconds: float = 0.0
    looks: int = 0
    torn: list[str] = field(default_factory=list)
    killed: int = 0


def body(writer: str, place: int) -> bytes:
    """What a client sends; the same each time, and nobody else's."""
    chance = random.Random(f"{SEED} {writer} {place}")
    # The server refuses what is no image, or not all of one.
    header = f"NRRD0004\n# {writer} {place}\ntype: uint8\ndimension: 1\nsizes: {SIZE}\nencoding: raw\n\n"
    return header.encode() + chance.randbytes(SIZE)


def client(server: Live, writer: str, saves: int, done: Callable[[Saved], None]) -> None:
    """Save labels one after the other; one that is not acknowledged is sent again until it is."""
    with requests.Session() as session:
        for place in range(saves):
            image, tag = f"image-{place % IMAGES}", f"{writer}-{place // IMAGES}"
            if place % SHARE == SHARE - 1:
                tag = EVERYONE
            sent = body(writer, place)
            while True:
                try:
                    answer = session.put(
                        f"{server.url}/datastore/label",
                        params={"image": image, "tag": tag},
                        data={"params": json.dumps({"writer": writer, "place": place})},
                        files={"label": ("label.nrrd", sent)},
                        timeout=600,
                    )
                    if answer.status_code == 200:
                        break
                except requests.RequestException:
                    pass
                time.sleep(AGAIN)
            done(Saved(image, tag, writer, place, hashlib.sha256(sent).hexdigest()))


def watch(index: Path, said: Said, stop: threading.Event) -> None:
    """Read the index again and again, as whoever shares the folder may."""
    while not stop.is_set():
        try:
            text = index.read_bytes()
        except FileNotFoundError:
            time.sleep(0.01)
            continue
        said.looks += 1
        try:
            json.loads(text)["objects"]
        except (ValueError, KeyError) as error:
            said.torn.append(f"{len(text)} bytes: {error}")
        time.sleep(0.005)


def run(servers: list[Live], clients: int, saves: int, *, kill: bool) -> Said:
    """Have clients save by the servers in turn.

    Parameters
    ----------
    servers:
        They answer.
    clients, saves:
        How many, and how many labels each of them saves.
    kill:
        Whether the first server is killed by SIGKILL once half of its clients' labels are saved, and started
        again.
    """
    said, lock, stop, half = Said(), threading.Lock(), threading.Event(), threading.Event()
    theirs = {f"w{number}" for number in range(0, clients, len(servers))}

    def done(one: Saved) -> None:
        with lock:
            said.acknowledged.append(one)
            if sum(each.writer in theirs for each in said.acknowledged) * 2 >= len(theirs) * saves:
                half.set()

    reader = threading.Thread(
        target=watch, args=(servers[0].studies / "datastore_v2.json", said, stop), daemon=True
    )
    reader.start()
    begin = time.monotonic()
    try:
        with ThreadPoolExecutor(clients) as pool:
            working = [
                pool.submit(client, servers[number % len(servers)], f"w{number}", saves, done)
                for number in range(clients)
            ]
            if kill:
                while not half.wait(0.01):
                    for one in working:
                        if one.done():
                            one.result()
                said.killed = servers[0].end(signal.SIGKILL)
                servers[0].start()
                servers[0].wait()
            for one in working:
                one.result()
        said.seconds = time.monotonic() - begin
    finally:
        stop.set()
        reader.join(30)
    return said


def lost(said: Said, studies: Path, objects: dict[str, Any]) -> tuple[list[Saved], list[Saved]]:
    """Labels that were acknowledged and are not there, and those of which something noted is not there.

    One that another client has replaced must be there as an earlier version.

    Parameters
    ----------
    said:
        Of the campaign.
    studies:
        The folder, whose files are read.
    objects:
        What an index, or a server, says of each image.
    """
    gone, unknown, replaced = [], [], earlier_versions(studies)
    for one in said.acknowledged:
        label = objects.get(one.image, {}).get("labels", {}).get(one.tag)
        file = studies / "labels" / one.tag / f"{one.image}.nrrd"
        there = file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == one.checksum
        info = label["info"] if label else {}
        if one.tag == EVERYONE and not there:
            kept = replaced.get((one.image, one.checksum))
            there, info = kept is not None, kept or {}
        if not there:
            gone.append(one)
        if (info.get("writer"), info.get("place")) != (one.writer, one.place):
            unknown.append(one)
    return gone, unknown


def earlier_versions(studies: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Image and checksum of each earlier version of a label that everyone saves → what is noted of it."""
    with Tree(studies) as tree:
        return {
            (version.image, hashlib.sha256((studies / version.path).read_bytes()).hexdigest()): earlier.entry(
                tree, version
            ).get("info", {})
            for version in earlier.versions(tree)
            if version.tag == EVERYONE
        }


def known(server: Live) -> dict[str, Any]:
    """What a server says of each image."""
    found: dict[str, Any] = server.ask("GET", "/datastore/", params={"output": "all"}).json()["objects"]
    return found


def written(studies: Path) -> dict[str, Any]:
    """What the index on the share says of each image."""
    found: dict[str, Any] = json.loads((studies / "datastore_v2.json").read_bytes())["objects"]
    return found
