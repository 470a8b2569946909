"""What stands for an instance: a container with systemd and a real sshd, reached over a port of this machine.

The container has no network. Each connection to the port is an ``sshd -i`` of its own, started in it as inetd
would. What cloud-init does at an instance's first boot is done by :meth:`Host.attend`: it asks EC2 which
instances run, and lets in whom their key pair and user data name.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from scripts import engine

ADMIN = "admin"
"""Whom Debian's AMI lets in by the key pair (Debian wiki, Cloud/AmazonEC2Image)."""

SSHD = (
    *("/usr/sbin/sshd", "-i", "-e"),
    # Sessions of PAM want the audit system of the kernel, which a container has not.
    *("-o", "UsePAM=no", "-o", "PubkeyAuthentication=yes"),
    # The users' own files: a baked root may name others.
    *("-o", "AuthorizedKeysFile=.ssh/authorized_keys"),
)

BOOT_SECONDS = 300.0

_ADMIT = """\
set -eu
id -u "$1" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$1"
usermod --password '*' "$1"
install -d -m 0700 -o "$1" -g "$1" "/home/$1/.ssh"
printf '%s\\n' "$2" >> "/home/$1/.ssh/authorized_keys"
chown "$1:$1" "/home/$1/.ssh/authorized_keys"
printf '%s ALL=(ALL) NOPASSWD:ALL\\n' "$1" > "/etc/sudoers.d/90-$1"
chmod 0440 "/etc/sudoers.d/90-$1"
"""


class Host:
    """A container that stands for an instance, as a context manager.

    Parameters
    ----------
    root:
        A root folder with systemd, openssh-server and sudo; what is written goes into a layer.
    name:
        Of the container.
    engine_:
        What runs it; by default the first that can.

    Attributes
    ----------
    port:
        On 127.0.0.1.
    """

    def __init__(self, root: Path, name: str, engine_: engine.Engine | None = None) -> None:
        self.root = root
        self.name = name
        self.engine = engine_ or engine.find(root)
        self.port = 0
        self._stop = threading.Event()
        self._seen: set[str] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Host:
        options = ["--detach", "--name", self.name, "--hostname", "instance"]
        arguments = self.engine.arguments(self.root, *options, layer=True, network="none")
        done = self.engine.call("run", *arguments)
        assert done.returncode == 0, done.stderr
        try:
            self._booted()
            self.run("install", "-d", "/run/sshd")
            self.run("ssh-keygen", "-A")
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
            self._start(self._serve)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # Closing alone does not end an accept that waits.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
        self._remove()

    def _remove(self) -> None:
        self.engine.call(*self.engine.REMOVE, self.name)

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _booted(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            said = self.engine.call("exec", self.name, "systemctl", "is-system-running").stdout.strip()
            if said in ("running", "degraded"):
                return
            assert time.monotonic() < deadline, (
                f"the container does not boot: systemd says {said or 'nothing'}"
            )
            time.sleep(0.5)

    def run(self, *command: str) -> str:
        """Run a command in the container, as root; return what it wrote."""
        done = self.engine.call("exec", self.name, *command)
        assert done.returncode == 0, f"{command[:2]}: {done.stderr}"
        return done.stdout

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            command = self.engine.command("exec", "--interactive", self.name, *SSHD)
            with connection:
                process = subprocess.Popen(
                    command,
                    stdin=connection.fileno(),
                    stdout=connection.fileno(),
                    stderr=subprocess.DEVNULL,
                    env=self.engine.environment(),
                )
            self._start(process.wait)

    def admit(self, user: str, public_key: str) -> None:
        """Let a user in by a key, with sudo.

        Parameters
        ----------
        user:
            Made where there is none.
        public_key:
            A line of authorized_keys.
        """
        self.run("sh", "-c", _ADMIT, "admit", user, public_key.strip())

    def attend(self, ec2: Any) -> None:
        """Do for every instance that begins to run what its first boot would do, until the host ends.

        Parameters
        ----------
        ec2:
            Client of the emulator.
        """
        self._start(self._attend, ec2)

    def _attend(self, ec2: Any) -> None:
        while not self._stop.wait(0.5):
            for held in ec2.describe_instances()["Reservations"]:
                for instance in held["Instances"]:
                    if instance["State"]["Name"] == "running" and instance["InstanceId"] not in self._seen:
                        self._seen.add(instance["InstanceId"])
                        self._first_boot(ec2, instance)

    def _first_boot(self, ec2: Any, instance: dict[str, Any]) -> None:
        if name := instance.get("KeyName"):
            keys = ec2.describe_key_pairs(KeyNames=[name], IncludePublicKey=True)["KeyPairs"]
            self.admit(ADMIN, keys[0]["PublicKey"])
        asked = {"InstanceId": instance["InstanceId"], "Attribute": "userData"}
        told = ec2.describe_instance_attribute(**asked).get("UserData", {}).get("Value", "")
        text = base64.b64decode(told).decode() if told else ""
        if text.startswith("#cloud-config"):
            for user in json.loads(text.partition("\n")[2]).get("users", []):
                for key in user["ssh_authorized_keys"]:
                    self.admit(user["name"], key)
