"""Runs an image's roles on a root by chroot, where no systemd runs.

``python -m tests.molecule.offline MERGED VERSION MODULES`` under :mod:`scripts.layer`. It takes files of the
roles out of a sealed root and has the playbook write them again; what came of it lies in the layer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kiln import config, paths
from scripts import driver, inputs, versions
from tests.image.tree import settings

BIN = Path(sys.executable).parent
WRITTEN = (
    "etc/chrony/conf.d", "etc/cloud", "etc/logrotate.d", "etc/modprobe.d", "etc/security/limits.d",
    "etc/ssh/sshd_config.d", "etc/sudoers.d", "etc/sysctl.d", "etc/systemd", "etc/tmpfiles.d",
)  # fmt: skip
"""Folders in which what no package brought is a role's."""


def is_a_roles(path: Path) -> bool:
    """Whether a role can have written it; links of enabled units are systemctl's, masked ones a role's."""
    return str(path.readlink()) == "/dev/null" if path.is_symlink() else path.is_file()


def forget(root: Path) -> list[Path]:
    """Take away what the roles wrote below these folders; return it."""
    lists = (root / "var/lib/dpkg/info").glob("*.list")
    owned = {path for names in lists for path in names.read_text().split("\n")}
    found = [
        path
        for folder in WRITTEN
        for path in sorted((root / folder).rglob("*"))
        if is_a_roles(path) and f"/{path.relative_to(root)}" not in owned
    ]
    for path in found:
        path.unlink()
    return found


def play(root: Path, version: Path, modules: Path) -> str:
    """Have Ansible run the image's playbook by chroot; return what it says."""
    written = versions.read(version)
    image = config.load().select(written.image)
    build = root / "run/kiln-build"
    build.mkdir()
    shutil.copy(modules, build / driver.LENT)
    release = {
        key.lower(): value for key, value in settings((root / "etc/image-release").read_text()).items()
    }
    variables = {**inputs.variables(image, written.facts.roles), "seal_release": release}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vars.json").write_text(json.dumps(variables))
        done = subprocess.run(
            [
                BIN / "ansible-playbook", "--connection", "community.general.chroot",
                "--inventory", f"{root},", "--extra-vars", f"@{folder}/vars.json", image.playbook,
            ],
            env={**os.environ, "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg")},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def main(root: Path, version: Path, modules: Path) -> None:
    """Forget, play, and print what was forgotten and what Ansible said, as JSON."""
    mounts = (("bind", "/dev", "dev"), ("tmpfs", "tmp", "tmp"))
    for kind, source, target in mounts:
        option = ["--bind"] if kind == "bind" else ["-t", kind]
        subprocess.run(["mount", *option, source, root / target], check=True)
    forgotten = [str(path.relative_to(root)) for path in forget(root)]
    said = play(root, version, modules)
    print(json.dumps({"forgotten": forgotten, "said": said}))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
