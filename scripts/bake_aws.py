"""kiln bake --on aws, the half that knows what goes into an image: its inputs, and how Packer is called."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from kiln import appstream, config, manifest, paths
from kiln import slicer as pinned
from kiln.version_files import PACKER
from scripts import inputs, proc

System = Literal["linux", "windows"]

SOURCE = "amazon-ebs.image"

INPUTS = "inputs.json"
"""What an AMI was made from, beside Packer's word for it."""

CONNECTION: dict[System, dict[str, str]] = {
    "linux": {},
    "windows": {"ansible_password": "{{ lookup('env', 'KILN_PACKER_PASSWORD') }}"},
}
"""How Ansible gets in, as far as Packer does not tell it: no secret stands on a command line or in a file."""

# Of a local bake alone: on AWS the base image brings boot loader and partitions, and apt resolves there.
_LOCAL = ("_apt_update", "_packages_installed", "_bootloader", "_partuuid", "_fs_uuid", "_modules_package")


@dataclass(frozen=True)
class Build:
    """An image of kiln.toml as it will be baked on AWS.

    Parameters
    ----------
    image:
        Its name.
    config_path:
        kiln.toml, by default the checkout's.
    """

    image: str
    config_path: Path | None = None

    @cached_property
    def loaded(self) -> config.Config:
        """The whole of kiln.toml."""
        return config.load(self.config_path)

    @property
    def settings(self) -> config.Image:
        """Its section of kiln.toml."""
        return self.loaded.select(self.image)

    @cached_property
    def roles(self) -> list[str]:
        """Roles of its playbook, in order."""
        return inputs.roles_of(self.settings.playbook)

    @property
    def system(self) -> System:
        """What it runs on AWS: AppStream imports no Linux."""
        return "windows" if pinned.ROLE in self.roles else "linux"

    @cached_property
    def variables(self) -> dict[str, object]:
        """Variables of the playbook.

        Raises
        ------
        UsageError
            kiln.toml does not say what is installed on that system.
        """
        if self.system == "windows":
            return {
                **pinned.variables(self.settings.slicer, "windows"),
                **appstream.variables(self.settings.appstream),
                "appstream_way": "import",
            }
        found = inputs.variables(self.settings, self.roles)
        return {name: value for name, value in found.items() if not name.endswith(_LOCAL)}

    def inputs(self, base: str) -> manifest.Inputs:
        """Return what the input digest covers.

        Parameters
        ----------
        base:
            Id of the AMI that it begins with.
        """
        return manifest.Inputs(
            destination="aws",
            files=inputs.files(self.settings, self.roles),
            variables={**self.variables, inputs.ROOT_GB: self.settings.root_gb},
            base_lock=hashlib.sha256(base.encode()).hexdigest(),
            tools={"packer": inputs.tools()["packer"], "ansible-core": inputs.tools()["ansible-core"]},
        )

    def version(self, digest: str) -> str:
        """Return a new version for a digest: the time, and its first eight digits."""
        return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{digest[:8]}"

    def command(self, wish: Mapping[str, str], folder: Path) -> list[str]:
        """Return Packer's command line.

        Parameters
        ----------
        wish:
            Variables of the template that the account decides: region, subnet, base AMI, version, run id.
        folder:
            The version's, where the manifest of its post-processor goes.
        """
        said = {
            "project": self.loaded.project.name,
            "playbook": str(self.settings.playbook),
            "ansible_command": str(Path(sys.executable).parent / "ansible-playbook"),
            "root_gb": str(self.settings.root_gb),
            "manifest": str(folder / PACKER),
            **wish,
        }
        options = [word for name, value in said.items() for word in ("-var", f"{name}={value}")]
        return ["packer", "build", "-color=false", f"-only={SOURCE}", *options, str(self.settings.template)]

    def run(
        self, wish: Mapping[str, str], base: str, profile: str | None, say: Callable[[str], None]
    ) -> Path:
        """Have Packer make the AMI.

        Parameters
        ----------
        wish, base:
            As of :meth:`command` and :meth:`inputs`.
        profile:
            Of the AWS configuration, whose credentials Packer takes.
        say:
            Told Packer's lines.

        Returns
        -------
        Path
            The version's folder, with Packer's manifest and the inputs.

        Raises
        ------
        KilnError
            Packer failed; it has taken down what it made.
        """
        folder = paths.make(paths.build_dir() / self.image / wish["version"], "KILN_BUILD")
        (folder / INPUTS).write_text(self.inputs(base).model_dump_json(indent=1) + "\n")
        with tempfile.TemporaryDirectory(prefix="kiln-packer-") as scratch:
            extra = Path(scratch) / "extra-vars.json"
            extra.write_text(json.dumps(self.variables | CONNECTION[self.system], indent=1))
            environment = {
                **os.environ,
                "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"),
                "CHECKPOINT_DISABLE": "1",
                "PACKER_CACHE_DIR": f"{scratch}/cache",
                **({"AWS_PROFILE": profile} if profile else {}),
            }
            proc.run(
                self.command({**wish, "extra_vars": str(extra)}, folder),
                folder / "logs/packer.log",
                what="packer build",
                on_line=lambda line: say(line.strip()[:120]),
                env=environment,
                cwd=paths.ROOT,
            )
        return folder
