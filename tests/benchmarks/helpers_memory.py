"""server.helpers_megabytes: nginx, kiln-auth, kiln-health and kiln-drain together, at their most.

``python -m tests.benchmarks.helpers_memory [SECONDS]``: the programs as an instance has them, before a
server that stands in for MONAI Label's, beside an emulated AWS that takes their calls. Clients log in, ask
and upload meanwhile, metrics are published, and the instance is drained with heartbeats: the child that
calls AWS counts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from kiln import errors, figures
from tests.emulator import aws, lifecycle, metadata
from tests.emulator.ours import Bench, until
from tests.gateway import memory
from tests.gateway.gateway import ROLES, running

COMMAND = "make bench (tests/benchmarks/helpers_memory.py)"


def measure(seconds: float) -> dict[str, float]:
    """Run everything together.

    Parameters
    ----------
    seconds:
        How long after the first publication.

    Returns
    -------
    dict
        ``rest`` and ``most`` in MB, ``calls`` to AWS in that time.
    """
    folder = Path(tempfile.mkdtemp(prefix="kiln-helpers-"))
    bench = Bench(folder)
    with aws.serve() as endpoint, metadata.serve(folder / "imds.log") as imds, running() as gateway:
        cloud = aws.fresh(endpoint)
        cloud.hook(30)
        imds.instance(cloud.instance, "InService")
        lifecycle.RECORD.on_terminating = lambda instance: imds.instance(instance, "Terminated")
        bench.settings |= {
            "METADATA": imds.address, "ENDPOINT": endpoint, "PUBLISH": "2", "INTERVAL": "0.5",
            "NGINX": str(gateway.place / "run/status.sock"),
        }  # fmt: skip
        try:
            bench.serve()
            ours = [bench.start("kiln_health"), bench.start("kiln_drain", "watch")]
            pids = [gateway.nginx.pid, gateway.auth.pid, *(each.pid for each in ours)]
            with memory.watched(pids) as seen:
                until(lambda: bench.ask_health("/readyz")[0] == 200)
                until(lambda: b'"published": 1' in bench.ask_health("/healthz")[1], 120)
                assert bench.ask("POST", f"/train/{round(seconds)}")[0] == 200
                until(cloud.protected, 120)
                cloud.terminate()
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    for role in ROLES:
                        assert gateway.ask("GET", "/info/", role).status == 200
                    gateway.ask("PUT", "/datastore/image?image=a", "admin", body=bytes(4 << 20))
                least, most = seen()
            calls = len(lifecycle.RECORD.calls)
        finally:
            bench.end()
    return {"rest": least / 1000, "most": most / 1000, "calls": calls}


def main(seconds: float) -> None:
    """Measure, print, write the figure."""
    found = measure(seconds)
    print("{most:.1f} MB at the most, {rest:.1f} at the least; {calls:.0f} calls to AWS".format(**found))
    figures.write("server.helpers_megabytes", round(found["most"], 1), COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(lambda: main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)))
