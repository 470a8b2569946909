"""The kiln command. Each command loads the side it needs when it is asked, never before."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import stat
import sys
import time
import traceback
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Abort

from kiln import cli_aws
from kiln.arguments import ConfigOption, JsonOption, split
from kiln.errors import Exit, KilnError, UsageError, tell

if TYPE_CHECKING:
    from types import FrameType

app = typer.Typer(
    name="kiln",
    help="Golden images for MONAI Label: baked, booted and proven before anyone uses them.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use, 3 a check refused, 4 nothing to do.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
pins = typer.Typer(
    name="pins", help="Downloads that a role needs: their URL, sha256 and size.", no_args_is_help=True
)
app.add_typer(pins)

ImageArgument = Annotated[str, typer.Argument(help="Image in kiln.toml.", metavar="IMAGE")]
VersionedArgument = Annotated[
    str, typer.Argument(help="Image, and a version of it, else the latest.", metavar="IMAGE[@VERSION]")
]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")]


class Destination(StrEnum):
    """Where an image is baked."""

    LOCAL = "local"
    AWS = "aws"


_INTERRUPTED = 128 + signal.SIGINT

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A closed terminal and a stopped service end kiln as Ctrl-C does: with everything tidied up."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@app.command()
def bake(
    image: ImageArgument,
    on: Annotated[Destination, typer.Option("--on", help="On this machine, or on an instance of EC2.")] = (
        Destination.LOCAL
    ),
    force: Annotated[bool, typer.Option("--force", help="Bake also when nothing has changed.")] = False,
    region: Annotated[str | None, typer.Option(help="Of EC2, else the image's first.")] = None,
    subnet: Annotated[str, typer.Option(help="Of the instance, else the default VPC's.")] = "",
    only_plan: cli_aws.PlanOption = False,
    json: JsonOption = False,
    profile: cli_aws.ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Bake an image and prove it: on this machine, where it is booted too, or on AWS."""
    if on is Destination.LOCAL:
        from scripts import bake as station

        if region or subnet or only_plan or json or profile:
            raise UsageError("these options are for a bake on AWS", "add --on aws")
        station.run(image, config, force)
        return Exit.DONE
    # Both sides meet: launch looks at the account and the base AMI, scripts knows what goes into the image.
    from kiln import paths
    from launch import bake_ami
    from scripts import bake_aws

    return bake_ami.run(
        image,
        bake_aws.Build(image, config),
        folder=paths.build_dir() / image,
        region=region,
        subnet=subnet,
        only_plan=only_plan,
        as_json=json,
        profile=profile,
        config=config,
    )


@app.command()
def prove(
    image: Annotated[
        str, typer.Argument(help="Image, and a version of it, else the newest.", metavar="IMAGE[@VERSION]")
    ],
    ami: Annotated[str, typer.Option("--ami", help="On an instance of this AMI of it.", metavar="AMI")] = "",
    region: Annotated[str | None, typer.Option(help="Of the AMI, else the image's first.")] = None,
    instance_type: Annotated[str, typer.Option(help="Else the first of the image.", metavar="TYPE")] = "",
    subnet: Annotated[str, typer.Option(help="Of the instance, else the default VPC's.")] = "",
    source: Annotated[
        str, typer.Option("--from", help="Who may reach its ssh, else we.", metavar="CIDR")
    ] = "",
    address: Annotated[str, typer.Option(help="Where ssh reaches it.", metavar="HOST:PORT")] = "",
    session_manager: Annotated[
        bool, typer.Option("--session-manager", help="Reach it so, with no port open.")
    ] = False,
    instance_profile: Annotated[str, typer.Option(help="IAM instance profile of it.")] = "",
    only_plan: cli_aws.PlanOption = False,
    json: JsonOption = False,
    profile: cli_aws.ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Check a version, by default the newest: its files, its root, its boot, and a real client."""
    from scripts import prove as station

    name, version = split(image)
    wanted = (ami, instance_type, subnet, source, address, session_manager, instance_profile)
    if not ami:
        if region or only_plan or json or profile or any(wanted):
            raise UsageError("these options are for an instance of AWS", "name its image: --ami ami-0123…")
        station.run(name, version, config_path=config)
        return Exit.DONE
    # The one place where both sides meet: launch brings a host up and takes it down, scripts proves it.
    from launch import prove_ami
    from launch.instance import Wish
    from scripts import seed

    visit = station.Visit(name, config)
    return prove_ami.run(
        name,
        version,
        Wish(ami, instance_type, subnet, source, address, instance_profile, session_manager),
        body=visit.prove,
        user=seed.USER,
        user_data=visit.user_data,
        look=visit.look,
        region=region,
        only_plan=only_plan,
        as_json=json,
        profile=profile,
        config=config,
    )


@app.command()
def boot(
    image: VersionedArgument,
    ssh_port: PortOption = 0,
    http_port: PortOption = 0,
) -> None:
    """Run a version on this machine until Ctrl-C; nothing is written to its disk."""
    from scripts import boot as station

    name, version = split(image)
    station.run(image=name, version=version, ssh_port=ssh_port, http_port=http_port)


@app.command()
def images(json: JsonOption = False) -> None:
    """List the versions of this checkout."""
    from scripts import images as station

    station.print_images(as_json=json)


@app.command()
def show(image: VersionedArgument, json: JsonOption = False) -> None:
    """Show a version: what went in, what came out, what was checked."""
    from scripts import images as station

    station.print_version(*split(image), as_json=json)


@pins.command("add")
def pins_add(
    role: Annotated[str, typer.Argument(help="Role under ansible/roles.", metavar="ROLE")],
    name: Annotated[str, typer.Argument(help="Name by which the role knows the file.", metavar="NAME")],
    url: Annotated[
        str | None, typer.Argument(help="http, https or file; by default the one listed.", metavar="[URL]")
    ] = None,
) -> None:
    """Download a file once, learn its sha256 and size, and write them where the role reads them."""
    from scripts import pins as station

    station.add(role, name, url)


@pins.command("learn")
def pins_learn(
    url: Annotated[str, typer.Argument(help="http, https or file.", metavar="URL")],
) -> None:
    """Download a file once, and print the table that pins it in kiln.toml."""
    from scripts import pins as station

    station.print_table(url)


@pins.command("check")
def pins_check(
    role: Annotated[str | None, typer.Argument(help="Only this role.", metavar="[ROLE]")] = None,
    config: ConfigOption = None,
) -> None:
    """Download every pinned file again, of roles and of kiln.toml, and compare."""
    from scripts import pins as station

    station.check(role, config)


cli_aws.register(app)


def main() -> None:
    """Run the command line and leave with its exit code; the entry point of ``kiln``."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command and tell its errors in two lines.

    Parameters
    ----------
    arguments:
        As after ``kiln`` on a command line.

    Returns
    -------
    int
        The exit code (:class:`kiln.errors.Exit`; 128 and more for a signal).
    """
    stopped_by = signal.SIGINT

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped_by
        stopped_by = signal.Signals(number)
        # A second Ctrl-C would end the clean-up half-way. Ignored, and not only passed over by us: what the
        # clean-up starts inherits it, or the terminal's Ctrl-C would end podman and umount instead.
        for each in _STOPPING:
            signal.signal(each, signal.SIG_IGN)
        _write_now("tidying up; kill -9 is safe too: the next run clears what it leaves")
        raise KeyboardInterrupt

    for number in _STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, stop)
    try:
        code = int(app(arguments, prog_name="kiln", standalone_mode=False) or Exit.DONE)
        sys.stdout.flush()  # here, where its failure is told
        # Typer turns the interrupt that a command did not catch into this code.
        return _stopped(stopped_by) if code == _INTERRUPTED else code
    except KilnError as error:
        return tell(error.what, error.hint, error.code)
    except (KeyboardInterrupt, Abort):
        return _stopped(stopped_by)
    except BrokenPipeError:
        # The reader of our output has left, as head does.
        _close_output()
        return 128 + signal.SIGPIPE
    except Exception as error:
        if (usage := _usage(error)) is not None:
            return usage
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return _full(error)
        return _crashed(error)


def _stopped(by: signal.Signals) -> int:
    print(f"stopped by {by.name}", file=sys.stderr)
    return 128 + by


def _write_now(line: str) -> None:
    """Write a line from a signal handler, where the streams may be in the middle of another."""
    start = "\n" if os.isatty(2) else ""  # a spinner has no end of line
    with contextlib.suppress(OSError):  # the terminal may be what has gone
        os.write(2, f"{start}{line}\n".encode())


def _close_output() -> None:
    """Keep Python from failing on its last flush of an output that takes no more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _full(error: OSError) -> int:
    """Tell that a disk or a quota is full, and where, as well as that is known."""
    try:
        sys.stdout.flush()
    except OSError:
        _close_output()
    # A copy names both files; a write to an open file names none.
    where = error.filename2 or error.filename or _fullest()
    hint = 'make room: docs/operations.md, "The disk is full"; KILN_BUILD, KILN_CACHE and TMPDIR move folders'
    return tell(f"no room left on {where}", hint, Exit.FAILED)


def _fullest() -> str:
    """Return which of the places that kiln writes to has the least room."""
    import tempfile

    from kiln import paths

    free: dict[str, int] = {}
    for folder in (paths.build_dir(), paths.cache_dir(), Path(tempfile.gettempdir())):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free[str(folder)] = shutil.disk_usage(there).free
    if stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
        free["the file of the output"] = shutil.disk_usage(sys.stdout.fileno()).free
    place = min(free, key=free.__getitem__)
    return f"a disk; {place} has the least, {free[place] / 1e9:.1f} GB"


def _usage(error: Exception) -> int | None:
    """Tell a mistake that Typer found on the command line; None if it found none."""
    message = getattr(error, "format_message", None)
    if message is None:
        return None
    if not message():  # no command at all: its help has been printed
        return Exit.WRONG_USE
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "kiln"
    return tell(" ".join(message().split()).rstrip("."), f"see: {path} --help", Exit.WRONG_USE)


def _crashed(error: Exception) -> int:
    """Keep the traceback of an error that nobody foresaw in a file, and name the file."""
    from kiln import paths

    what = f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
    log = paths.build_dir() / "logs" / time.strftime("crash-%Y%m%dT%H%M%SZ.log", time.gmtime())
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"kiln {' '.join(sys.argv[1:])}\n{''.join(traceback.format_exception(error))}")
    except OSError as trouble:
        # A full disk is one of the things that go wrong.
        return tell(what, f"the log could not be written either: {trouble}", Exit.FAILED)
    return tell(what, f"this is a bug in kiln; please report it with {log}", Exit.FAILED)


if __name__ == "__main__":
    main()
