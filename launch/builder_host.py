"""The way into an image builder: WinRM or ssh to its network interface, both by Ansible."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from kiln import paths
from kiln.appstream import Builder
from kiln.assistant import PROGRAMS
from kiln.assistant import Answer as Answer
from kiln.errors import KilnError
from launch.plan import Say

NAME = "builder"

ASSISTANTS: dict[str, list[str]] = {
    "winrm": [PROGRAMS["windows"]],
    "ssh": ["sudo", "-n", PROGRAMS["linux"]],
}
"""How the Image Assistant is called, by the way in."""

LEAVE: dict[str, list[str]] = {
    "winrm": [
        "powershell.exe",
        *(
            "-NoProfile",
            "-ExecutionPolicy",
            "Bypass",
            "-File",
            r"C:\ProgramData\kiln-builder\leave.ps1",
            "-AtNextStart",
        ),
    ],
    "ssh": ["sudo", "-n", "/usr/local/sbin/kiln-leave", "--at-next-start"],
}
"""What the script of the seed has put there, to be gone with its account before users come."""

PASSWORD = "KILN_BUILDER_PASSWORD"  # noqa: S105 - a variable's name
"""The inventory has no secret: Ansible reads it from its own environment."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Host(Protocol):
    """A builder that commands can be run on."""

    @property
    def connect(self) -> Literal["winrm", "ssh"]:
        """The way in."""

    @property
    def assistant(self) -> list[str]:
        """How the Image Assistant is called there."""

    @property
    def leave(self) -> list[str]:
        """Takes Ansible's account away at the next start."""

    def run(self, command: list[str], seconds: float) -> Answer:
        """Run a command, for some seconds at most."""

    def variables(self) -> dict[str, Any]:
        """Return Ansible's variables of the host, without secrets."""

    def environment(self) -> dict[str, str]:
        """Return what Ansible's process needs in its environment, secrets among it."""


@dataclass(frozen=True)
class ByAnsible:
    """A builder that is reached as Ansible reaches any host.

    Parameters
    ----------
    connect:
        The way in.
    known:
        Ansible's variables of it.
    secret:
        Variables of the environment.
    """

    connect: Literal["winrm", "ssh"]
    known: dict[str, Any]
    secret: dict[str, str] = field(repr=False, default_factory=dict)

    @property
    def assistant(self) -> list[str]:
        """How the Image Assistant is called there."""
        return ASSISTANTS[self.connect]

    @property
    def leave(self) -> list[str]:
        """Takes Ansible's account away at the next start."""
        return LEAVE[self.connect]

    def run(self, command: list[str], seconds: float) -> Answer:
        """Run a command by an ad hoc call of Ansible, which answers as JSON."""
        windows = self.connect == "winrm"
        module = "ansible.windows.win_command" if windows else "ansible.builtin.command"
        arguments: dict[str, Any] = {"argv": command}
        if not windows:
            arguments["expand_argument_vars"] = False
        with inventory(self) as file:
            done = _call(
                ["ansible", NAME, "-i", str(file), "-m", module, "-a", json.dumps(arguments)],
                {
                    **self.environment(),
                    "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
                    "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
                },
                seconds,
            )
        if done is None:
            return Answer(None, "", f"no answer within {seconds:g} s")
        return _answer(done)

    def variables(self) -> dict[str, Any]:
        """Return what the inventory says."""
        return self.known

    def environment(self) -> dict[str, str]:
        """Return the secrets."""
        return self.secret


def reach(builder: Builder, address: str, secret: str, folder: Path) -> ByAnsible:
    """Return the way into a builder.

    Parameters
    ----------
    builder:
        What kiln.toml says.
    address:
        Of its network interface.
    secret:
        Password for WinRM, private key for ssh.
    folder:
        Where the key and the known hosts lie while it is used; nobody else may read it.
    """
    common = {"ansible_host": address, "ansible_port": builder.reached_at, "ansible_user": builder.user}
    if builder.connect == "winrm":
        by = "psrp" if importlib.util.find_spec("pypsrp") else "winrm"
        known = {
            **common,
            "ansible_connection": by,
            "ansible_password": f"{{{{ lookup('ansible.builtin.env', '{PASSWORD}') }}}}",
            "ansible_shell_type": "powershell",
            "ansible_winrm_scheme": "https",
            "ansible_winrm_transport": "ntlm",
            "ansible_winrm_server_cert_validation": builder.certificate,
            "ansible_psrp_protocol": "https",
            "ansible_psrp_auth": "ntlm",
            "ansible_psrp_cert_validation": builder.certificate,
        }
        return ByAnsible("winrm", known, {PASSWORD: secret})
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_text(secret if secret.endswith("\n") else secret + "\n")
    options = f"-o UserKnownHostsFile={folder / 'known_hosts'} -o StrictHostKeyChecking=accept-new"
    known = {
        **common,
        "ansible_connection": "ssh",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": f"{options} -o IdentitiesOnly=yes -o BatchMode=yes",
        # The roles install for every user; over winrm the account is an administrator as it is.
        "ansible_become": True,
        "ansible_python_interpreter": "auto_silent",
    }
    return ByAnsible("ssh", known)


def lacking(builder: Builder) -> tuple[str, str] | None:
    """Return what this machine lacks for the way in, and what to do; None where it lacks nothing."""
    if builder.connect == "winrm" and not any(map(importlib.util.find_spec, ("pypsrp", "winrm"))):
        return (
            "Ansible has no way to Windows here: neither the package pypsrp nor pywinrm is installed",
            "uv pip install pypsrp, into the environment that kiln runs in",
        )
    return None


@contextmanager
def inventory(host: Host) -> Iterator[Path]:
    """Write an inventory with one host, for as long as it is used; a secret is not in it."""
    with tempfile.TemporaryDirectory(prefix="kiln-inventory-") as folder:
        file = Path(folder) / "hosts.json"
        file.write_text(json.dumps({"all": {"hosts": {NAME: host.variables()}}}))
        yield file


def provision(
    host: Host, playbook: Path, variables: dict[str, Any], log: Path, say: Say, seconds: float = 7200
) -> None:
    """Run a playbook on a builder.

    Parameters
    ----------
    host:
        The builder.
    playbook:
        What it is to become.
    variables:
        Extra variables.
    log:
        File that gets all that Ansible prints.
    say:
        Is told each task.
    seconds:
        How long it may take.

    Raises
    ------
    KilnError
        There is no such playbook, or a task failed.
    """
    if not playbook.is_file():
        raise KilnError(
            f"there is no playbook {playbook}", "name one that is there under playbook in kiln.toml"
        )
    log.parent.mkdir(parents=True, exist_ok=True)
    with inventory(host) as file, log.open("w") as stream:
        extra = file.parent / "variables.json"
        extra.write_text(json.dumps(variables))
        command = ["ansible-playbook", "-i", str(file), str(playbook), "--extra-vars", f"@{extra}"]

        def read(line: str) -> None:
            stream.write(line)
            if line.startswith("TASK ["):
                say(line.strip(" *\n"))

        done = _stream(command, host.environment(), seconds, read)
    if done != 0:
        raise KilnError(
            f"{playbook.name} failed on the builder: {_last_word(log)}",
            f"all that Ansible said is in {log}; correct the playbook, then run the same command again",
        )


def _last_word(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "ERROR!", "[ERROR]"))]
    return (fatal or lines or ["it printed nothing"])[-1][:300]


def _answer(text: str) -> Answer:
    # A warning may stand before it, or behind.
    start = 0 if text.startswith("{") else text.find("\n{") + 1
    try:
        data, _ = json.JSONDecoder().raw_decode(text, start)
        result = data["plays"][-1]["tasks"][-1]["hosts"][NAME]
    except (ValueError, LookupError, TypeError):
        return Answer(None, "", " ".join(text.split())[:300])
    if result.get("unreachable") or "rc" not in result:
        return Answer(None, "", " ".join(str(result.get("msg", "")).split())[:300])
    return Answer(int(result["rc"]), result.get("stdout", ""), result.get("stderr", ""))


# ---- processes


def _environment(extra: dict[str, str]) -> dict[str, str]:
    """Ours, with what Ansible needs; the keys of AWS stay here: no builder has a use for them."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**ours, "ANSIBLE_CONFIG": str(paths.ROOT / "ansible.cfg"), **extra}


def _program(name: str) -> str:
    """The program of our own environment, else the one on PATH."""
    ours = Path(sys.executable).parent / name
    return str(ours) if ours.is_file() else name


def _watched() -> Callable[[], None]:
    """Let the kernel end the child when kiln is killed: no playbook goes on without its lock."""
    parent = os.getpid()

    def arm() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return arm


def _call(command: list[str], extra: dict[str, str], seconds: float) -> str | None:
    """Run a program of Ansible and return what it printed; None where it took too long."""
    try:
        done = subprocess.run(
            [_program(command[0]), *command[1:]],
            env=_environment(extra),
            cwd=paths.ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            preexec_fn=_watched(),
        )
    except subprocess.TimeoutExpired:
        return None
    except FileNotFoundError as error:
        raise KilnError(f"{command[0]} is not installed", "scripts/setup.sh installs it") from error
    # Where Ansible does not come to its JSON, what it complained about is all there is.
    return done.stdout if done.stdout.strip() else done.stderr


def _stream(command: list[str], extra: dict[str, str], seconds: float, read: Callable[[str], None]) -> int:
    """Run a program of Ansible and hand on its lines as they come; return its exit code."""
    try:
        child = subprocess.Popen(
            ["timeout", "--signal=TERM", f"{seconds:g}", _program(command[0]), *command[1:]],
            env=_environment(extra),
            cwd=paths.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=_watched(),
        )
    except FileNotFoundError as error:
        raise KilnError(f"{error.filename} is not installed", "scripts/setup.sh installs it") from error
    with child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                read(line)
        except BaseException:
            child.terminate()
            raise
        return child.wait()
