"""The base image with Ansible's account in it: AWS's own have none, so a person runs a script, once."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from kiln import paths
from kiln.appstream import NAME_LENGTH, RESERVED, Builder
from kiln.config import Config
from kiln.errors import KilnError, UsageError
from launch import secret
from launch.appstream import ask, until
from launch.builder_host import Host
from launch.cloud import Cloud
from launch.plan import Say

SCRIPTS = {"winrm": "windows.ps1", "ssh": "linux.sh"}
"""Way in → script of ``launch/bootstrap/`` that opens it."""

HOW = {
    "winrm": "log in as Administrator, put the script into My Files (Temporary Files), and run it in a "
    "PowerShell that you started as administrator: powershell -ExecutionPolicy Bypass -File PATH",
    "ssh": "log in as ImageBuilderAdmin, put the script into Home Folder, and run it in a terminal: "
    "sudo bash PATH",
}

HOURS = 2.0
"""How long we wait for a person; an address is valid for one hour, and then there is a new one."""

VALID = 3600


def template(builder: Builder) -> str:
    """Return the script that opens the way in, with its gaps."""
    return (Path(__file__).parent / "bootstrap" / SCRIPTS[builder.connect]).read_text(encoding="utf-8")


def script(builder: Builder, key: str) -> str:
    """Return the script that opens the way in.

    Parameters
    ----------
    builder:
        What kiln.toml says.
    key:
        Public key for ssh; WinRM's password is asked for by the script.
    """
    filled = template(builder)
    for gap, value in {"USER": builder.user, "PORT": str(builder.reached_at), "KEY": key}.items():
        filled = filled.replace(f"@{gap}@", value)
    return filled


def base_name(config: Config, image: str, builder: Builder) -> str:
    """Return the name of our base image: it changes with AWS's base, and with what the script makes.

    Parameters
    ----------
    config, image, builder:
        What kiln.toml says.

    Raises
    ------
    UsageError
        AppStream takes no such name.
    """
    parts = (builder.base, builder.user, builder.connect, str(builder.reached_at), template(builder))
    name = f"{config.project.name}-{image}-base-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:8]}"
    if len(name) > NAME_LENGTH or name.lower().startswith(RESERVED):
        raise UsageError(
            f"AppStream takes no image of the name {name}",
            f"shorten or rename project and image; no name begins with {', '.join(RESERVED)}",
        )
    return name


def public_key(private: str) -> str:
    """Return the public half of a private key.

    Raises
    ------
    KilnError
        It is no private key without a passphrase.
    """
    with tempfile.TemporaryDirectory(prefix="kiln-key-") as folder:
        file = Path(folder) / "key"
        file.touch(mode=0o600)
        file.write_text(private if private.endswith("\n") else private + "\n")
        try:
            done = subprocess.run(
                ["ssh-keygen", "-y", "-P", "", "-f", str(file)], capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            raise KilnError("ssh-keygen is not installed", "install OpenSSH's client") from error
    if done.returncode != 0:
        raise KilnError(
            f"the secret is no private key: {' '.join(done.stderr.split())[:120]}",
            "store a private key of OpenSSH without a passphrase: ssh-keygen -t ed25519 -N ''",
        )
    return done.stdout.strip()


def guide(cloud: Cloud, region: str, name: str, builder: Builder, host: Host, base: str, say: Say) -> None:
    """Lead a person through the one thing that only a person can do, until the builder can be reached.

    Parameters
    ----------
    cloud, region, name:
        The builder, which runs. CreateImageBuilderStreamingURL must have been announced.
    builder:
        What kiln.toml says of it.
    host:
        The way in, which is closed as yet.
    base:
        Name of the base image, for the script's.
    say:
        Is told what we wait for.

    Raises
    ------
    KilnError
        Nobody ran the script in two hours.
    """
    if _reached(host, say):
        return
    key = public_key(secret.read(cloud, region, builder.secret)) if builder.connect == "ssh" else ""
    file = paths.cache_dir() / "builder" / f"{base}{Path(SCRIPTS[builder.connect]).suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script(builder, key), encoding="utf-8")
    _show(cloud, region, name, builder, file)
    looks = 0

    def look() -> bool | None:
        nonlocal looks
        looks += 1
        # An address ends after an hour; somebody may come later than that.
        if looks % (VALID // 15) == 0:
            _show(cloud, region, name, builder, file)
        return True if _reached(host, say) else None

    until(cloud, f"somebody to run {file.name} on image builder {name}", HOURS * 60, look)


def _reached(host: Host, say: Say) -> bool:
    answer = host.run(["hostname"], 60)
    if answer.code != 0:
        say(f"waiting for the script to be run: {answer.err or answer.out}")
    return answer.code == 0


def _show(cloud: Cloud, region: str, name: str, builder: Builder, file: Path) -> None:
    url = ask(
        cloud,
        region,
        f"asking for the address of image builder {name}",
        "create_image_builder_streaming_url",
        Name=name,
        Validity=VALID,
    )["StreamingURL"]
    lines = [
        "",
        f"Image builder {name} runs. By hand, once:",
        f"  1. open, within an hour:  {url}",
        f"  2. {HOW[builder.connect]}",
        f"     the script:  {file}",
        f"  3. its password is what {builder.secret} holds; kiln goes on as soon as the builder answers",
        "",
    ]
    if builder.connect == "ssh":
        lines[5] = "  3. kiln goes on as soon as the builder answers"
    # Not by way of the progress display, which cuts its lines: an address must be whole.
    print("\n".join(lines), file=sys.stderr, flush=True)
