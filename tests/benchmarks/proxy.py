"""server.proxy_over_direct and server.upload_over_direct: what nginx and the question who it is cost.

``python -m tests.benchmarks.proxy [INFERENCES] [UPLOADS] [MEGABYTES]``, on the latest proven image. Through
nginx and straight to the same server in turn, each side once before it counts.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import requests

from kiln import errors, figures
from kiln.errors import RefusedError
from scripts import annotate
from tests.gateway.gateway import Gateway, running
from tests.server import live

COMMAND = "make bench (tests/benchmarks/proxy.py)"
IMAGE = "image-0"


def in_turn(sides: dict[str, Callable[[], requests.Response]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side, one after the other.

    Parameters
    ----------
    sides:
        Name → a request.
    rounds:
        That count; one before them does not.

    Raises
    ------
    RefusedError
        A request was not answered by 200: a refusal is quick.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, ask in sides.items():
            begin = time.monotonic()
            answer = ask()
            taken[name].append(time.monotonic() - begin)
            if answer.status_code != 200:
                raise RefusedError(
                    f"{name}: {answer.status_code} {answer.text[:200]}", "see the server's own log"
                )
    return {name: seconds[1:] for name, seconds in taken.items()}


def sides(server: live.Live, gateway: Gateway) -> dict[str, tuple[str, dict[str, str]]]:
    """Name → address, and headers of each request."""
    token = gateway.token("admin")
    return {"nginx": (gateway.url, {"Authorization": f"Bearer {token}"}), "direct": (server.url, {})}


def inference(url: str, headers: dict[str, str]) -> requests.Response:
    """One, as upstream's client sends it."""
    return requests.post(
        f"{url}/infer/segmentation_spleen",
        params={"image": IMAGE, "output": "image"},
        files={"params": (None, '{"device": "cpu"}')},
        headers=headers,
        timeout=live.LIMIT,
    )


def upload(url: str, headers: dict[str, str], file: Path, name: str) -> requests.Response:
    """One of a file, streamed as upstream's client does it."""
    from requests_toolbelt import MultipartEncoder

    with file.open("rb") as stream:
        form = MultipartEncoder({"file": ("image.nii", stream, "application/octet-stream")})
        return requests.put(
            f"{url}/datastore/image",
            params={"image": name},
            data=form,
            headers={**headers, "Content-Type": form.content_type},
            timeout=live.LIMIT,
        )


def ratio(taken: dict[str, list[float]]) -> float:
    """Median through nginx ÷ median without."""
    return statistics.median(taken["nginx"]) / statistics.median(taken["direct"])


def main(inferences: int, uploads: int, megabytes: int) -> None:
    """Measure, print, write the figures."""
    with tempfile.TemporaryDirectory(prefix="kiln-proxy-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        studies = live.studies(folder / "studies", 0)
        nibabel.save(annotate.volume(), studies / f"{IMAGE}.nii.gz")
        big = folder / "big.nii"
        header = nibabel.Nifti1Header()
        header.set_data_dtype("uint8")
        header.set_data_shape((1000, 1000, megabytes))
        with big.open("wb") as stream:
            stream.write(header.binaryblock + bytes(4))
            for _ in range(megabytes):
                stream.write(bytes(1_000_000))
        uploaded = folder / "uploads"
        with (
            live.servers(folder, studies, 1, named=True) as (server,),
            running(gateway_upstream=f"127.0.0.1:{server.port}", upload_dir=uploaded) as gateway,
        ):
            both = sides(server, gateway)
            infer = in_turn({side: lambda to=to: inference(*to) for side, to in both.items()}, inferences)
            print(f"inference {ratio(infer):.3f}  {infer}", flush=True)
            figures.write("server.proxy_over_direct", round(ratio(infer), 3), COMMAND)
            sent = in_turn(
                {side: lambda side=side, to=to: upload(*to, big, f"big-{side}") for side, to in both.items()},
                uploads,
            )
            print(f"upload of {megabytes} MB {ratio(sent):.3f}  {sent}", flush=True)
            figures.write("server.upload_over_direct", round(ratio(sent), 3), COMMAND)


if __name__ == "__main__":
    given = dict(enumerate(map(int, sys.argv[1:])))
    sys.exit(errors.main(lambda: main(given.get(0, 9), given.get(1, 3), given.get(2, 500))))
