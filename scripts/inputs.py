"""What goes into an image, and its digest (house plan, The contract)."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from kiln import config, manifest, paths
from kiln.errors import KilnError, UsageError
from scripts import archive, base, disk, driver, mirrors, slicer

ROLES = paths.ROOT / "ansible/roles"

TOOLS = (
    "packer",
    "mmdebstrap",
    "genimage",
    "qemu-utils",
    "grub-efi-amd64-bin",
    "e2fsprogs",
    "mtools",
    "dosfstools",
    "grub-common",
    "podman",
)
"""Debian packages of this machine whose version may show in an image."""

PIPELINE = (
    "scripts/base.py",
    "scripts/disk.py",
    "scripts/docker_init.sh",
    "scripts/driver.py",
    "scripts/engine.py",
    "scripts/mirrors.py",
)
"""Programs of ours that write bytes of the image themselves."""

SOURCES = ("ansible", "ansible.cfg", "packer", "requirements", "scripts", "kiln.toml")
"""Where the inputs lie in the checkout; an untracked file there makes it dirty too."""

LOCKS = {
    "monai_label": ("requirements/monai-label.lock", "requirements/uv.lock"),
    "appstream": ("kiln/appstream.py",),
}
"""Role → files beside it that decide what it installs: locks, and what its filters take from kiln."""

ROOT_GB = "root_gb"
"""Among the variables of the inputs the one that is no role's."""

_IGNORED = {"__pycache__", "README.md"}


@dataclass(frozen=True)
class Resolved:
    """Everything known before a bake starts.

    Parameters
    ----------
    image:
        Name of the image.
    settings:
        Its section of kiln.toml.
    inputs:
        What the digest covers.
    digest:
        Sha256 over the inputs, in hexadecimal.
    roles:
        Roles of the playbook, in order.
    lock:
        The packages as resolved.
    git:
        The checkout.
    lent:
        Files of this machine that the build container sees, as of :func:`scripts.mirrors.lend`.
    """

    image: str
    settings: config.Image
    inputs: manifest.Inputs
    digest: str
    roles: list[str]
    lock: archive.BaseLock
    git: manifest.Git
    lent: dict[str, Path] = field(default_factory=dict)


def _first_line(error: Exception) -> str:
    # YAML's errors say on their later lines where: that is what is looked for.
    return " ".join(part.strip() for part in str(error).splitlines()[:3])


def roles_of(playbook: Path) -> list[str]:
    """Return the roles of a playbook in order.

    Raises
    ------
    UsageError
        It is no playbook, or names a role that is not there.
    """
    try:
        plays = yaml.safe_load(playbook.read_text(encoding="utf-8"))
        entries = [role for play in plays for role in play.get("roles", [])]
        # Ansible takes both names of the key.
        names = [
            str(entry.get("role") or entry["name"]) if isinstance(entry, dict) else str(entry)
            for entry in entries
        ]
    except (yaml.YAMLError, UnicodeError, TypeError, AttributeError, KeyError) as error:
        what = "a role has no name" if isinstance(error, KeyError) else _first_line(error)
        raise UsageError(f"{playbook} is no playbook: {what}", "correct it") from None
    for name in names:
        if not (ROLES / name).is_dir():
            known = ", ".join(sorted(p.name for p in ROLES.iterdir() if p.is_dir()))
            raise UsageError(f"{playbook} names the role {name}, which is not there", f"roles: {known}")
    return names


def packages(role: str) -> list[str]:
    """Return the Debian packages that a role installs, its ``<role>_packages``.

    Raises
    ------
    UsageError
        Its defaults are no table in YAML.
    """
    defaults = ROLES / role / "defaults/main.yml"
    try:
        values = yaml.safe_load(defaults.read_text(encoding="utf-8")) if defaults.exists() else {}
        return list((values or {}).get(f"{role}_packages", []))
    except (yaml.YAMLError, UnicodeError, TypeError, AttributeError) as error:
        raise UsageError(f"{defaults} cannot be read: {_first_line(error)}", "correct it") from None


def variables(image: config.Image, roles: list[str]) -> dict[str, object]:
    """Return the variables that the bake sets for the roles, and no other role's.

    Parameters
    ----------
    image:
        The image's section of kiln.toml.
    roles:
        Roles of its playbook.
    """
    table: dict[str, dict[str, object]] = {
        # One call of apt for all: each further one reads its lists for two seconds to find nothing to do.
        "base": {
            "base_apt_update": False,
            "base_extra_packages": [name for role in roles if role != "base" for name in packages(role)],
            "base_bootloader": True,
            "base_root_partuuid": disk.ROOT_PARTUUID,
            "base_root_fs_uuid": disk.ROOT_FS_UUID,
        },
        "nvidia": {
            "nvidia_driver_source": "debian",
            "nvidia_apt_update": False,
            "nvidia_packages_installed": True,
            "nvidia_modules_package": str(mirrors.INSIDE / driver.LENT),
        },
        "efs_client": {"efs_client_apt_update": False, "efs_client_packages_installed": True},
        "hardening": {"hardening_apt_update": False},
        "agents": {"agents_apt_update": False, "agents_packages_installed": True},
        "gateway": {"gateway_apt_update": False, "gateway_packages_installed": True},
        "slicer": {"slicer_apt_update": False, "slicer_packages_installed": True},
        "monai_label": {
            "monai_label_apt_update": False,
            "monai_label_packages_installed": True,
            "monai_label_app": image.app,
            "monai_label_models": image.models,
            "monai_label_weights": image.weights,
        },
    }
    return {name: value for role in roles for name, value in table.get(role, {}).items()}


def files(image: config.Image, roles: list[str]) -> dict[str, str]:
    """Return the files that the input digest covers, path in the checkout → sha256.

    Parameters
    ----------
    image:
        The image's section of kiln.toml.
    roles:
        Roles of its playbook.
    """
    found = [image.playbook, *image.template.glob("*.hcl"), *(paths.ROOT / name for name in PIPELINE)]
    found += [paths.ROOT / "ansible.cfg", *(paths.ROOT / "ansible/library").glob("*.py")]
    found = [path for path in found if not path.name.endswith(".auto.pkrvars.hcl")]
    for role in roles:
        found += [p for p in (ROLES / role).rglob("*") if p.is_file() and not _IGNORED & set(p.parts)]
        found += [paths.ROOT / lock for lock in LOCKS.get(role, ())]
    return {
        str(
            path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path.name
        ): manifest.sha256_file(path)
        for path in sorted(set(found))
    }


def tools() -> dict[str, str]:
    """Return the versions of the tools that make an image.

    Raises
    ------
    KilnError
        One of them is not installed.
    """
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${db:Status-Status}\n", *TOOLS],
        capture_output=True, text=True,
    )  # fmt: skip
    found = dict(line.split()[:2] for line in done.stdout.splitlines() if line.endswith(" installed"))
    if missing := [tool for tool in TOOLS if tool not in found]:
        raise KilnError(f"not installed: {', '.join(missing)}", "run scripts/setup.sh, then try again")
    return {**found, "ansible-core": importlib.metadata.version("ansible-core")}


def _git() -> manifest.Git:
    # A checkout of another user, as root sees it in CI, is ours to read: kiln runs from it.
    git = ["git", "-c", f"safe.directory={paths.ROOT}", "-C", str(paths.ROOT)]

    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run([*git, *arguments], capture_output=True, text=True)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changed = ask("status", "--porcelain", "--", *SOURCES)
    # What git cannot tell counts as changed, unless this is an export without a repository.
    unknown = changed is None and (paths.ROOT / ".git").exists()
    return manifest.Git(commit=ask("rev-parse", "HEAD"), dirty=unknown or bool(changed))


def resolve(
    name: str, image: config.Image, log: Path, say: Callable[[str], None] = lambda _: None
) -> Resolved:
    """Resolve what a local bake of an image will consist of.

    Parameters
    ----------
    name:
        Name of the image.
    image:
        Its section of kiln.toml.
    log:
        Where apt's output goes.
    say:
        Told when another bake has to be waited for.

    Raises
    ------
    KilnError
        A tool is missing, or the packages cannot be resolved.
    UsageError
        The playbook names a role that is not there, or lacks the one that brings the driver.
    """
    roles = roles_of(image.playbook)
    versions = tools()
    lock = archive.resolve(
        base.PACKAGES,
        [wanted for role in roles if (wanted := packages(role))],
        log,
        driver.sources(roles, image.driver),
        say,
    )
    chosen = slicer.choose(image, roles, say)
    inputs = manifest.Inputs(
        destination="local",
        files=files(image, roles),
        variables={**variables(image, roles), **chosen.variables, ROOT_GB: image.root_gb},
        base_lock=lock.digest(),
        tools=versions,
    )
    return Resolved(name, image, inputs, inputs.digest(), roles, lock, _git(), chosen.lent)


def write_extra_vars(
    path: Path, resolved: Resolved, release: dict[str, str], environment: dict[str, str]
) -> None:
    """Write the file of variables that Packer hands to Ansible.

    Parameters
    ----------
    path:
        The file.
    resolved:
        The bake's inputs.
    release:
        What ``/etc/image-release`` will say.
    environment:
        The build machine's settings, for the time of the build only.
    """
    body = {
        **{name: value for name, value in resolved.inputs.variables.items() if name != ROOT_GB},
        "seal_release": release,
        "kiln_build_environment": environment,
    }
    path.write_text(json.dumps(body, indent=1))
