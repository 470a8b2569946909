"""The build machine's own mirrors, proxies and certificates: lent to a build, never left in an image."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kiln import paths
from kiln.errors import KilnError
from scripts import proc

SUITES = ("bookworm", "bookworm-updates", "bookworm-security")
"""Debian 12, its updates and its security suite."""

COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")
"""What the resolver lists: NVIDIA's driver is non-free, its firmware has a component of its own.

Of every suite: without non-free of the security suite apt takes an older driver and says nothing.
"""

INSIDE = Path("/run/kiln-build")
"""Where the build container sees the folder; /run is a tmpfs there, so no mount point stays in the root."""

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

# Settings that a build may need from the machine's environment, passed on as they are.
_PASSED = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT",
    "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INSECURE_HOST",
)  # fmt: skip


def apt_sources() -> dict[str, str]:
    """Return the archive that this machine's apt uses for each suite of the base.

    Returns
    -------
    dict
        Suite → URI.

    Raises
    ------
    KilnError
        A suite is missing from this machine's apt sources.
    """
    listing = proc.output(
        [
            "apt-get",
            "indextargets",
            "--no-release-info",
            "--format",
            "$(RELEASE) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        ],
        what="reading this machine's apt sources",
    )
    found: dict[str, str] = {}
    for line in listing.splitlines():
        suite, component, uri = line.split(maxsplit=2)
        if component == "main":
            found.setdefault(suite, uri.rstrip("/"))
    if missing := [suite for suite in SUITES if suite not in found]:
        raise KilnError(
            f"this machine's apt sources lack {', '.join(missing)}",
            "add Debian 12's suites to /etc/apt/sources.list.d/debian.sources and run apt-get update",
        )
    return {suite: found[suite] for suite in SUITES}


def source_lines(uris: dict[str, str], components: Sequence[str] = COMPONENTS[:1]) -> list[str]:
    """Return one-line apt sources for the suites, signed by Debian's own keys.

    Parameters
    ----------
    uris:
        Suite → URI.
    components:
        Components of each suite.
    """
    names = " ".join(components)
    return [f"deb [signed-by={_KEYRING}] {uri} {suite} {names}" for suite, uri in uris.items()]


def apt_config(at: Path) -> str:
    """Return an apt.conf under which everything of apt lies in one folder, with this machine's proxies.

    Parameters
    ----------
    at:
        The folder as the reader of the file will see it.
    """
    dump = proc.output(["apt-config", "dump", "--no-empty"], what="reading this machine's apt settings")
    passed = [line for line in dump.splitlines() if line.startswith(("Acquire::http::", "Acquire::https::"))]
    passed = [line for line in passed if "::Proxy" in line or "::No-Cache" in line]
    return "\n".join(
        [
            f'Dir::Etc::sourcelist "{at}/sources.list";',
            'Dir::Etc::sourceparts "/dev/null";',
            f'Dir::State::lists "{at}/lists/";',
            f'Dir::Cache::archives "{at}/archives/";',
            f'Acquire::https::CAInfo "{at}/ca.crt";' if _CA_BUNDLE.exists() else "",
            'APT::Sandbox::User "root";',
            'APT::Keep-Downloaded-Packages "true";',
            *passed,
            "",
        ]
    )


def for_mmdebstrap(folder: Path) -> tuple[Path, Path]:
    """Write what mmdebstrap takes of this machine: apt sources and apt settings.

    Parameters
    ----------
    folder:
        Existing folder of the run.

    Returns
    -------
    tuple of (Path, Path)
        The file of sources, and that for ``--aptopt``.
    """
    sources, settings = folder / "mmdebstrap.list", folder / "mmdebstrap.conf"
    sources.write_text("\n".join(source_lines(apt_sources())) + "\n")
    options = [line for line in apt_config(Path("/")).splitlines() if line.startswith("Acquire::")]
    # In a file and not on the command line, which is logged: a proxy's address may hold a password.
    settings.write_text("\n".join(line for line in options if "CAInfo" not in line) + "\n")
    return sources, settings


def _index() -> str | None:
    """Return the index that this machine's pip is set to; uv reads no settings of pip's."""
    # The pip of .venv: Debian's Python has none of its own. `config get` would read one of its files only.
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True)
    found = dict(re.findall(r"^(\S+)\.index-url='(.*)'$", done.stdout, re.MULTILINE))
    return next((found[place] for place in (":env:", "install", "global") if place in found), None)


@dataclass(frozen=True)
class Loan:
    """What a build container gets from this machine.

    Parameters
    ----------
    volumes:
        Bind mounts, as ``source:target[:options]``.
    environment:
        Variables of every Ansible task.
    """

    volumes: list[str]
    environment: dict[str, str]


def lend(work: Path, apt: Path, files: Mapping[str, Path] | None = None) -> Loan:
    """Prepare the folder that the build container sees at ``/run/kiln-build``.

    Parameters
    ----------
    work:
        The run's work folder.
    apt:
        Folder of the resolver (``archive``), whose lists and downloads the build uses: what was resolved
        is what gets installed.
    files:
        Further files: name in the folder → where it lies.
    """
    folder = work / "kiln-build"
    uv = paths.cache_dir() / "uv"
    for path in (
        uv,
        apt / "lists/partial",
        apt / "archives/partial",
        *(folder / n for n in ("lists", "archives", "uv")),
    ):
        path.mkdir(parents=True, exist_ok=True)
    (folder / "apt.conf").write_text(apt_config(INSIDE))
    (folder / "sources.list").write_text((apt / "sources.list").read_text())
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    if index := _index():
        environment["PIP_INDEX_URL"] = index
        if "UV_INDEX_URL" not in environment:
            environment.setdefault("UV_DEFAULT_INDEX", index)
    if _CA_BUNDLE.exists():
        (folder / "ca.crt").write_bytes(_CA_BUNDLE.read_bytes())
        certificates = str(INSIDE / "ca.crt")
        environment |= dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"), certificates)
    environment |= {
        "APT_CONFIG": str(INSIDE / "apt.conf"),
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_NO_CACHE_DIR": "1",
        "UV_CACHE_DIR": str(INSIDE / "uv"),
        "UV_LINK_MODE": "copy",
    }
    return Loan(
        volumes=[
            f"{folder}:{INSIDE}",
            f"{apt / 'lists'}:{INSIDE / 'lists'}",
            f"{apt / 'archives'}:{INSIDE / 'archives'}",
            f"{uv}:{INSIDE / 'uv'}",
            *(f"{path}:{INSIDE / name}:ro" for name, path in (files or {}).items()),
        ],
        environment=environment,
    )
