"""labels.*: 1,600 labels by four clients over two servers on one folder, of which one is killed halfway.

Every fourth has a tag that all clients save, so that both servers replace what the other has saved; what was
replaced must be there as an earlier version.

``python -m tests.benchmarks.labels [SAVES] [ROUNDS]``, on the latest proven image. Then, without a kill,
the same by servers with the shared store and by servers with upstream's stock store in turn: what the safety
costs.
The stock store loses labels of two servers; it is measured all the same, at what it does.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from kiln import errors, figures
from kiln.errors import RefusedError
from tests.server import campaign, live

COMMAND = "make bench (tests/benchmarks/labels.py)"
SERVERS = 2
CLIENTS = 4


def kill(folder: Path, saves: int) -> dict[str, float]:
    """Run the campaign with a kill; what is lost, as both servers and the file itself have it.

    Parameters
    ----------
    folder:
        An empty one.
    saves:
        Of each client.

    Raises
    ------
    RefusedError
        A reader has seen an index that is none: that has no figure of its own.
    """
    studies = live.studies(folder / "studies", campaign.IMAGES)
    with live.servers(folder, studies, SERVERS) as servers:
        said = campaign.run(servers, CLIENTS, saves, kill=True)
        everyone = [*map(campaign.known, servers), campaign.written(studies)]
    found = [campaign.lost(said, studies, objects) for objects in everyone]
    if said.torn or not said.looks or said.killed != -9:
        raise RefusedError(
            f"{len(said.torn)} of {said.looks} looks saw an index that is none: {said.torn[:1]}",
            "see kiln_store/store.py; the server that was killed ended by " + str(said.killed),
        )
    return {
        "labels.acknowledged": len(said.acknowledged),
        "labels.lost": max(len(gone) for gone, _ in found),
        "labels.metadata_lost": max(len(unknown) for _, unknown in found),
    }


def throughput(folder: Path, saves: int, rounds: int) -> dict[str, list[float]]:
    """Labels per second by store, the two in turn.

    Parameters
    ----------
    folder:
        An empty one.
    saves:
        Of each client in a round.
    rounds:
        How many of each.
    """
    found: dict[str, list[float]] = {"shared": [], "stock": []}
    for number in range(rounds):
        for store, rates in found.items():
            place = folder / f"{store}-{number}"
            place.mkdir()
            studies = live.studies(place / "studies", campaign.IMAGES)
            with live.servers(place, studies, SERVERS, KILN_SERVE_STORE=store) as servers:
                said = campaign.run(servers, CLIENTS, saves, kill=False)
            rates.append(len(said.acknowledged) / said.seconds)
            print(f"{store}: {rates[-1]:.1f} labels/s", flush=True)
    return found


def main(saves: int, rounds: int) -> None:
    """Measure, print, write the figures."""
    with tempfile.TemporaryDirectory(prefix="kiln-labels-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "kill").mkdir()
        for figure, value in kill(folder / "kill", saves).items():
            print(f"{figure} {value:g}", flush=True)
            figures.write(figure, value, COMMAND)
        rates = throughput(folder, saves // 4, rounds)
    ratio = statistics.median(rates["shared"]) / statistics.median(rates["stock"])
    print(f"shared over stock {ratio:.3f}  {rates}")
    figures.write("labels.throughput_over_stock", round(ratio, 3), COMMAND)


if __name__ == "__main__":
    given = dict(enumerate(map(int, sys.argv[1:])))
    sys.exit(errors.main(lambda: main(given.get(0, 400), given.get(1, 3))))
