"""Versions on disk, as a bake and a proof leave them, without a bake."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from kiln import manifest

DIGEST = "0123456789abcdef" * 4
VERSION = "20260102T030405Z-01234567"


def made(image: str = "tiny", version: str = VERSION) -> manifest.Manifest:
    """A manifest of an image without a server."""
    return manifest.Manifest(
        contract=1,
        image=image,
        version=version,
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        input_digest=DIGEST,
        inputs=manifest.Inputs(
            destination="local",
            files={"kiln.toml": DIGEST},
            variables={"seal_release": {"image": image}},
            base_lock=DIGEST,
            tools={"packer": "1.6.6"},
        ),
        git=manifest.Git(commit="f" * 40, dirty=True),
        facts=manifest.Facts(
            kernel="6.1.0-1-cloud-amd64",
            driver=None,
            cuda=None,
            torch=None,
            monai_label=None,
            python="3.11.2",
            debian="12.11",
            roles=["base", "seal"],
            packages={"systemd": "252"},
            distributions={},
            settings_schemas=[],
            weights=None,
            slicer=None,
        ),
        root=manifest.Root(digest=DIGEST, files=10, bytes=123_456_789),
        disk=manifest.Disk(
            file="image.qcow2",
            format="qcow2",
            sha256=DIGEST,
            bytes=45_000_000,
            virtual_bytes=2_000_000_000,
            root_uuid="6c0f5d3e-0001-4000-8000-000000000001",
        ),
        seconds={"base": 10.0, "packer": 20.5},
    )


def checked(of: Path, verdict: str = "passed") -> manifest.Proof:
    """A proof of the manifest that lies in a version folder."""
    passed = manifest.Check(id="static::test_a", stage="static", outcome="passed", seconds=0.1)
    failed = manifest.Check(
        id="live::test_b",
        stage="live",
        outcome="failed",
        message="sshd has the host key of the build",
        seconds=0.2,
    )
    return manifest.Proof(
        contract=1,
        image=of.parent.name,
        version=of.name,
        manifest_digest=manifest.sha256_file(of / "manifest.json"),
        checks_digest=DIGEST,
        started=datetime(2026, 1, 2, 3, 30, tzinfo=UTC),
        seconds=60.0,
        machine="2 cores, 8 GiB, tcg",
        verdict="passed" if verdict == "passed" else "refused",
        demand=None,
        boot=manifest.Boot(accelerator="tcg", ssh=20.0, running=30.0, ready=None),
        checks=[passed] if verdict == "passed" else [passed, failed],
    )


def put(build: Path, image: str = "tiny", version: str = VERSION, verdict: str | None = None) -> Path:
    """Put a version in a build folder.

    Parameters
    ----------
    build:
        The build folder.
    image, version:
        Names.
    verdict:
        Of its proof; None leaves it without one. What passed becomes ``latest``, as after a bake.
    """
    folder = build / image / version
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(made(image, version).model_dump_json(indent=1))
    if verdict:
        (folder / "proof.json").write_text(checked(folder, verdict).model_dump_json(indent=1))
    if verdict == "passed":
        link = folder.parent / "latest"
        link.unlink(missing_ok=True)
        link.symlink_to(version)
    return folder
