"""auth.*: each route × role over nginx, kiln-auth and the real server, and routes that have no row.

``python -m tests.benchmarks.auth``, on the latest proven image. The routes are the server's own: those of its
OpenAPI, as it answers, and those that it leaves out of it, as its application has them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from kiln import errors, figures, paths
from kiln.errors import RefusedError
from scripts import layer
from tests.defects.campaign import sealed_root
from tests.gateway import cells
from tests.gateway.gateway import FILES, running
from tests.server import live

COMMAND = "make bench (tests/benchmarks/auth.py)"
PROGRAM = paths.ROOT / "tests/gateway/real_server.py"
PYTHON = "/opt/monai-label/venv/bin/python"


def hidden(place: Path) -> set[tuple[str, str]]:
    """Routes of the application that its OpenAPI may leave out.

    Parameters
    ----------
    place:
        A new folder for a layer.
    """
    source = json.dumps((FILES / "kiln_identity.py").read_text())
    command = layer.command(
        sealed_root(), place, ["chroot", str(layer.merged(place)), PYTHON, "-", source]
    )  # fmt: skip
    done = subprocess.run(command, input=PROGRAM.read_text(), cwd=paths.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RefusedError(f"the application cannot be read: {done.stderr[-300:]}", f"see {PROGRAM}")
    return {(method, path) for method, path in json.loads(done.stdout.splitlines()[-1])["routes"]}


def main() -> None:
    """Measure, print, write the figures."""
    with tempfile.TemporaryDirectory(prefix="kiln-auth-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        studies = live.studies(folder / "studies", 1)
        app = paths.ROOT / "tests/server/naps"
        with (
            live.servers(folder, studies, 1, app=app, named=True) as (server,),
            running(gateway_upstream=f"127.0.0.1:{server.port}") as gateway,
        ):
            table = cells.cells()
            wrong = list(cells.wrong(gateway, table))
            open_ = cells.let_in(gateway)
            shown = cells.unclassified(gateway.ask("GET", "/openapi.json", "user").json)
        known = {(cell.route.method, cell.route.path) for cell in table}
        unknown = {*shown, *(hidden(folder / "hidden") - known)}
    for line in [*wrong, *(f"a token is let in: {name}" for name in open_), *map(str, sorted(unknown))]:
        print(line)
    print(f"{len(table) - len(wrong)} of {len(table)} cells; {len(cells.FORGED)} forged tokens")
    figures.write("auth.cells", len(table) - len(wrong), COMMAND)
    figures.write("auth.cells_of_the_table", len(table), COMMAND)
    figures.write("auth.forged_tokens_let_in", len(open_), COMMAND)
    figures.write("auth.routes_unclassified", len(unknown), COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(main))
