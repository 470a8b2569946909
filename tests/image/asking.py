"""How a check asks an image: a command that cannot say is a failure, not an empty answer."""

from __future__ import annotations

from collections.abc import Collection

from testinfra.host import Host

from tests.image.tree import Tree


def said(host: Host, command: str, *arguments: str, accepted: Collection[int] = (0,)) -> str:
    """What a command writes.

    Parameters
    ----------
    host:
        The image.
    command, arguments:
        A command line, with ``%s`` for each argument.
    accepted:
        Exit codes with which it has answered.

    Raises
    ------
    AssertionError
        It ended with another code.
    """
    done = host.run(command, *arguments)
    assert done.rc in accepted, (
        f"could not determine: {command.split()[0]} ended with {done.rc}: "
        f"{(done.stderr or done.stdout).strip()[-200:] or 'no word why'}"
    )
    return str(done.stdout)


def text(host: Host, path: str) -> str:
    """A text that must be there."""
    found = host.file(path)
    assert found.exists, f"{path} is missing"
    return str(found.content_string)


def text_or_nothing(host: Host, path: str) -> str:
    """A text that an image may do without."""
    found = host.file(path)
    return str(found.content_string) if found.exists else ""


def lines(host: Host, tree: Tree, *patterns: str, leaving: Collection[str] = ()) -> list[str]:
    """Lines of every file and link that matches; one at least must.

    Parameters
    ----------
    host, tree:
        The image.
    patterns:
        Globs, as of :meth:`Tree.matching`.
    leaving:
        Globs of what is not read.
    """
    unread = set(tree.matching(*leaving))
    paths = [path for path in tree.matching(*patterns) if tree[path].kind in "fl" and path not in unread]
    assert paths, f"could not determine: nothing matches {' '.join(patterns)}"
    # Unlike cat, sed ends the last line of each file: a comment there would hide the next file's first.
    return said(host, "sed -s '$a\\' -- " + " ".join("%s" for _ in paths), *paths).splitlines()


def naming(host: Host, tree: Tree, word: str, *places: str) -> list[str]:
    """Files, in those of the folders that there are, that hold a word; nothing that is not text.

    Parameters
    ----------
    host, tree:
        The image.
    word:
        What they hold.
    places:
        Globs of folders and files, of which ``*`` does not cross folders.
    """
    found = [path for one in places for path in tree.matching(one) if path.count("/") == one.count("/")]
    assert found, f"could not determine: nothing matches {' '.join(places)}"
    command = "grep -rlIF -e %s -- " + " ".join("%s" for _ in found)
    return said(host, command, word, *found, accepted=(0, 1)).splitlines()


def owned(host: Host) -> set[str]:
    """Every path that dpkg has brought, as it is since /bin, /sbin and /lib are links."""
    listed = said(host, "cat /var/lib/dpkg/info/*.list").splitlines()
    assert "/etc" in listed, "could not determine: dpkg lists no file"
    return {f"/usr{path}" if path.startswith(("/bin/", "/sbin/", "/lib")) else path for path in listed}
