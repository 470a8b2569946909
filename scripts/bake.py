"""kiln bake: from inputs to a proven version, or to nothing at all."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from kiln import config, manifest, paths
from kiln.errors import KilnError
from kiln.progress import Progress
from scripts import (
    archive,
    base,
    coverage,
    disk,
    driver,
    engine,
    facts,
    inputs,
    mirrors,
    proc,
    prove,
    sbom,
    tree,
    versions,
    workspace,
)
from scripts.engine import need_root

KEPT_LOGS = 10

PEAK_GB = {"base": 3, "monai_label": 40}
"""Role → disk space that a bake with it takes at its peak, with empty caches (measured, see README)."""

_TASK = re.compile(r"(?:TASK|RUNNING HANDLER) \[(.+?)\]")


def run(image: str, config_path: Path | None = None, force: bool = False) -> None:
    """Bake an image, prove it, and move ``latest`` to it.

    Parameters
    ----------
    image:
        Name of the image in kiln.toml.
    config_path:
        kiln.toml, by default the checkout's.
    force:
        Bake even where a proven version of the same inputs is there.

    Raises
    ------
    UsageError
        kiln.toml or the playbook cannot be meant.
    RefusedError
        The image was made, and a check of its proof refused it.
    KilnError
        A stage failed; nothing half-made is left.
    """
    loaded = config.load(config_path)
    settings, demand = loaded.select(image), loaded.demand(image)
    need_root("kiln bake")
    paths.make(paths.cache_dir(), "KILN_CACHE")
    folder = paths.build_dir() / image
    with workspace.claim(folder):
        cleared = workspace.sweep(folder)
        with Progress(f"kiln bake {image}") as progress, workspace.workspace(folder) as work:
            if cleared:
                progress.say(f"cleared what {len(cleared)} killed run(s) left")
            # Outside the work folder: of a bake that failed, the logs are all that stays.
            logs = folder / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{work.name}"
            _forget_logs(folder / "logs")
            with progress.stage("inputs"):
                resolved = inputs.resolve(image, settings, logs / "inputs.log", progress.detail)
                progress.detail(
                    f"digest {resolved.digest[:8]}, {len(resolved.lock.packages())} Debian packages"
                )
            known = None if force else versions.of_digest(folder, resolved.digest)
            # Without its root a version can be used as it is, and never be proven again.
            if known is not None and not (known / "root").is_dir() and not prove.is_current(known, demand):
                known = None
            if known is not None:
                shutil.rmtree(logs)
            if known is None:
                known = _make(resolved, folder, work, logs, progress)
            elif prove.is_current(known, demand):
                versions.set_latest(folder, known.name)
                progress.say(
                    f"unchanged: {known.name} has these inputs and is proven (--force bakes all the same)"
                )
                progress.say(f"image  {known / versions.read(known).disk.file}")
                return
            else:
                progress.say(f"{known.name} has these inputs and is not proven: proving it")
            prove.prove(known, folder, work, progress, demand)
            for name in versions.shed_roots(folder):
                progress.say(f"removed the root folder of {name}; its disk and its files stay")
            progress.say(f"image  {known / versions.read(known).disk.file}")
            progress.say(f"next   {sys.argv[0]} boot {image}")


def _forget_logs(folder: Path) -> None:
    """Keep the logs of the last few bakes that failed."""
    for old in sorted(folder.glob("*"))[: -KEPT_LOGS + 1]:
        shutil.rmtree(old)


def _make(resolved: inputs.Resolved, folder: Path, work: Path, logs: Path, progress: Progress) -> Path:
    """Make a version from resolved inputs and put it in its place, complete but not proven."""
    created = datetime.now(UTC).replace(microsecond=0)
    version = f"{created:%Y%m%dT%H%M%SZ}-{resolved.digest[:8]}"
    new = work / "version"
    root = new / "root"
    new.mkdir()
    _warn_of_room(resolved, folder, progress)

    with progress.stage("base"):
        base_name = base.unpack(
            resolved.lock, resolved.inputs.tools, root, logs / "base.log", progress.detail
        )
    lent = dict(resolved.lent)
    drivers = inputs.packages(driver.ROLE)
    if resolved.lock.stage:
        with progress.stage("driver"):
            lent |= driver.make(
                resolved.lock, drivers, resolved.inputs.tools, work, logs / "driver.log", progress.detail
            )
    release = {
        "image": resolved.image,
        "version": version,
        "input_digest": resolved.digest,
        "git_commit": (resolved.git.commit or "none") + ("-dirty" if resolved.git.dirty else ""),
        "base": base_name,
    }
    with progress.stage("packer"), archive.hold(progress.detail):
        run_packer(resolved, release, root, work, logs / "packer.log", progress, lent)
    with progress.stage("facts"):
        expected = {**resolved.lock.packages(), **driver.installed(resolved.lock, drivers)}
        base.compare(root, expected, "the finished root")
        found = facts.read(root, resolved.roles)
        digest, files, size = tree.digest(root)
        progress.detail(f"{files} files, {size / 1e9:.2f} GB, root {digest[:8]}")
    with progress.stage("disk"):
        made = disk.make(
            root,
            new / "image.qcow2",
            work,
            resolved.settings.root_gb,
            logs / "disk.log",
            epoch=int(created.timestamp()),
            progress=progress.detail,
        )
        progress.detail(f"{made.bytes / 1e9:.2f} GB")
    with progress.stage("sbom"):
        parts = sbom.write(
            root,
            new / "sbom.cdx.json",
            image=resolved.image,
            version=version,
            created=created,
            root_digest=digest,
            input_digest=resolved.digest,
        )
        progress.detail(f"{parts} components")
    (new / "base.lock").write_text(resolved.lock.model_dump_json(indent=1) + "\n")
    written = manifest.Manifest(
        contract=1,
        image=resolved.image,
        version=version,
        created=created,
        input_digest=resolved.digest,
        inputs=resolved.inputs,
        git=resolved.git,
        facts=found,
        root=manifest.Root(digest=digest, files=files, bytes=size),
        disk=made,
        seconds=dict(progress.seconds),
    )
    (new / "manifest.json").write_text(written.model_dump_json(indent=1) + "\n")
    logs.rename(new / "logs")
    place = folder / version
    new.rename(place)
    return place


def _warn_of_room(resolved: inputs.Resolved, folder: Path, progress: Progress) -> None:
    """Say before a long bake that it may run out of room; the stages check what they need themselves."""
    free = shutil.disk_usage(folder).free / 1e9
    needed = sum(PEAK_GB.get(role, 0) for role in resolved.roles)
    if free < needed:
        progress.say(
            f"only {free:.0f} GB are free on the disk of {folder}; a bake of this image may need {needed} GB"
        )


def run_packer(
    resolved: inputs.Resolved,
    release: dict[str, str],
    root: Path,
    work: Path,
    log: Path,
    progress: Progress,
    lent: Mapping[str, Path] | None = None,
) -> None:
    """Have Packer run Ansible in a container whose root is the folder.

    Parameters
    ----------
    resolved:
        The inputs.
    release:
        What ``/etc/image-release`` will say.
    root:
        The base root, which becomes the sealed one.
    work:
        The run's work folder, whose name labels the container.
    log:
        Where Packer's output goes.
    progress:
        Told each task.
    lent:
        Further files that the build container sees, as of :func:`scripts.mirrors.lend`.

    Raises
    ------
    KilnError
        A task failed, or no engine runs.
    """
    found = engine.find(root)
    loan = mirrors.lend(work, archive.folder(), lent)
    container = f"kiln-{work.name}"
    inputs.write_extra_vars(work / "extra-vars.json", resolved, release, loan.environment)
    mounts = [part for volume in loan.volumes for part in ("--volume", volume)]
    label = f"{engine.LABEL}={work.name}"
    options = ["--detach", "--name", container, "--hostname", "localhost", "--label", label, *mounts]
    tasks = 0

    def show(line: str) -> None:
        nonlocal tasks
        if match := _TASK.search(line):
            tasks += 1
            progress.detail(match[1])

    scratch = workspace.scratch(work.name)
    scratch.mkdir()
    bin_folder = Path(sys.executable).parent
    environment = found.environment() | {
        "PATH": f"{engine.shim(work / 'shim', found)}:{bin_folder}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(work / "ansible"),
        "CHECKPOINT_DISABLE": "1",
        **coverage.environment(),
        "PACKER_CACHE_DIR": str(work / "packer"),
        "TMPDIR": str(scratch),
    }
    # Without bytecode every call of Ansible starts cold: 1.8 s instead of 0.7 (field notes: local-bake).
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        proc.run(
            [
                "packer", "build", "-color=false", "-only=docker.image",
                "-var", f"playbook={resolved.settings.playbook}",
                "-var", f"extra_vars={work / 'extra-vars.json'}",
                "-var", f"ansible_command={bin_folder / 'ansible-playbook'}",
                "-var", f"container={container}",
                "-var", f"run_command={_hcl_list(found.arguments(root, *options))}",
                resolved.settings.template,
            ],
            log,
            what="packer build",
            on_line=show,
            env=environment,
            cwd=scratch,  # where Packer puts its crash.log
        )  # fmt: skip
    except KilnError as error:
        raise _explain(log) or error from None
    finally:
        engine.remove_containers(work.name)
        workspace.remove_tree(scratch)
    engine.release(root)
    progress.detail(f"{tasks} tasks")


def _hcl_list(words: list[str]) -> str:
    quoted = (word.replace("\\", "\\\\").replace('"', '\\"') for word in words)
    return "[" + ",".join(f'"{word}"' for word in quoted) + "]"


def _explain(log: Path) -> KilnError | None:
    """Find the task that failed in Packer's log, and what it said."""
    text = log.read_text(errors="replace")
    fatal = re.search(r"fatal: \[.*?\]: \w+!? => (.*)", text) or re.search(r"\[ERROR\]: (.*)", text)
    if fatal is None:
        return None
    before = _TASK.findall(text[: fatal.start()])
    # What a program wrote to stderr says more than Ansible's "non-zero return code".
    parts = [re.search(rf'"{key}": "((?:[^"\\]|\\.)+)"', fatal[1]) for key in ("stderr", "msg")]
    message = next((part[1] for part in parts if part), fatal[1])
    said = " ".join(message.replace("\\n", "\n").strip().splitlines()[-2:])[:300]
    return KilnError(f"task [{before[-1] if before else 'start'}] failed: {said}", f"read {log}")
