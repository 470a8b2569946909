"""The contract's files of an image that a builder becomes: manifest, proof and list of components.

They are written before the builder becomes the image, as those of a bake are written before it is published:
what stands in AWS always has its papers. A run that goes on finds them.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.component import Component, ComponentType
from packageurl import PackageURL

from kiln import paths, sbom
from kiln.errors import RefusedError
from kiln.manifest import BuilderManifest, Check, Facts, Git, Inputs, Proof
from launch import builder_checks, builder_facts, records
from launch.builder_facts import Told
from launch.builder_host import Host
from launch.plan import Say
from launch.records import MANIFEST, PROOF, SBOM, Records

PURLS = {
    "debian": ("deb", "debian"),
    "ubuntu": ("deb", "ubuntu"),
    "rhel": ("rpm", "redhat"),
    "rocky": ("rpm", "rocky"),
}
"""System → type and namespace of its packages' URLs; another's are generic."""


CHECKS = ("builder_checks.py", "builder_facts.py")
"""Files that the digest of the checks is over."""


def keep(
    store: Records,
    host: Host,
    image: str,
    version: str,
    inputs: Inputs,
    roles: list[str],
    say: Say,
) -> None:
    """Check a builder, and write what the contract says of an image into the records.

    Parameters
    ----------
    store:
        The bucket.
    host:
        The builder, provisioned, its catalogue filled.
    image, version:
        What it becomes.
    inputs:
        What went in.
    roles:
        Of the playbook.
    say:
        Is told.

    Raises
    ------
    RefusedError
        A check refused the builder; nothing is written then.
    KilnError
        It could not be found out, or not be written.
    """
    key = {name: store.version_key(image, version, name) for name in (MANIFEST, PROOF, SBOM)}
    started = datetime.now(UTC).replace(microsecond=0)
    say("asking the builder what it holds")
    told = builder_facts.read(host)
    checks = builder_checks.judge(told, roles, inputs.variables)
    failed = [check for check in checks if check.outcome == "failed"]
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise RefusedError(
            f"the builder must not become an image: {failed[0].id}: {failed[0].message}{more}",
            "correct the playbook or kiln.toml, then run the same command again",
        )
    manifest = store.get(key[MANIFEST])
    if manifest is None:
        manifest = records.written(_manifest(image, version, inputs, roles, told, started))
    # In this order: who sees a proof can hold it against its manifest.
    for name, body in (
        (MANIFEST, manifest),
        (SBOM, components(image, version, inputs, told, started).encode()),
        (PROOF, records.written(_proof(image, version, manifest, checks, started))),
    ):
        if store.get(key[name]) is None:
            say(f"writing {store.url(key[name])}")
            store.put_once(key[name], body)


def _manifest(
    image: str, version: str, inputs: Inputs, roles: list[str], told: Told, started: datetime
) -> BuilderManifest:
    return BuilderManifest(
        contract=1,
        image=image,
        version=version,
        created=started,
        input_digest=inputs.digest(),
        inputs=inputs,
        git=_git(),
        facts=Facts(
            kernel=told.kernel,
            driver=None,
            cuda=None,
            torch=None,
            monai_label=None,
            python=told.python,
            debian=told.release if told.system == "debian" else None,
            roles=roles,
            packages=told.packages,
            distributions={},
            settings_schemas=[],
            weights=None,
            slicer=(told.slicer or {}).get("kind"),
        ),
        # A run that goes on does not know how long the one before it took.
        seconds={},
    )


def _proof(image: str, version: str, manifest: bytes, checks: list[Check], started: datetime) -> Proof:
    """What was checked; nothing of it was booted, and the image itself only AppStream will start."""
    source = b"".join((Path(__file__).parent / name).read_bytes() for name in CHECKS)
    return Proof(
        contract=1,
        image=image,
        version=version,
        manifest_digest=hashlib.sha256(manifest).hexdigest(),
        checks_digest=hashlib.sha256(source).hexdigest(),
        started=started,
        seconds=max(0.0, (datetime.now(UTC) - started).total_seconds()),
        machine=f"an image builder of AppStream, asked from {platform.machine()}",
        verdict="passed",
        demand=None,
        boot=None,
        checks=checks,
    )


def components(image: str, version: str, inputs: Inputs, told: Told, created: datetime) -> str:
    """Return the list of components of a builder.

    Parameters
    ----------
    image, version, inputs:
        What it becomes, and of what.
    told:
        What it says of itself.
    created:
        When it was asked.

    Raises
    ------
    KilnError
        The document is not valid CycloneDX.
    """
    digest = inputs.digest()
    subject = Component(
        type=ComponentType.OPERATING_SYSTEM,
        name=image,
        version=version,
        bom_ref=f"{image}@{version}",
        properties=[Property(name="kiln:input-digest", value=f"sha256:{digest}")],
    )
    kind, namespace = PURLS.get(told.system, ("generic", None))
    qualifiers = {"distro": f"{told.system}-{told.release.split('.')[0]}"} if namespace else None
    parts = [
        _part(ComponentType.LIBRARY, PackageURL(kind, namespace, name, found or None, qualifiers))
        for name, found in sorted(told.packages.items())
    ]
    return sbom.text(subject, [*parts, *_slicer(told.slicer)], digest, created)


def _slicer(found: dict[str, Any] | None) -> list[Component]:
    """3D Slicer and its extension, which no package manager knows, with the digests of their files."""
    if found is None:
        return []
    extension, sha256 = found.get("extension") or {}, found.get("sha256") or {}
    named = {
        "slicer": ("slicer", found.get("version")),
        "extension": (extension.get("name"), extension.get("revision")),
    }
    return [
        _part(
            ComponentType.APPLICATION,
            PackageURL("generic", None, str(name), str(version)),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256[key])] if key in sha256 else [],
            properties=[Property(name="kiln:slicer:kind", value=str(found.get("kind")))],
        )
        for key, (name, version) in named.items()
    ]


def _part(kind: ComponentType, purl: PackageURL, **more: Any) -> Component:
    return Component(
        type=kind, name=purl.name, version=purl.version, purl=purl, bom_ref=purl.to_string(), **more
    )


def _git() -> Git:
    """The checkout that the playbook came from; a fact, and none where there is no git."""
    git = ["git", "-c", f"safe.directory={paths.ROOT}", "-C", str(paths.ROOT)]

    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run([*git, *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changed = ask("status", "--porcelain", "--", "ansible", "ansible.cfg", "kiln.toml")
    return Git(commit=ask("rev-parse", "HEAD"), dirty=changed is None or bool(changed))
