"""``make clean``: removes what bakes and tests have made. Downloads stay in the cache; .venv stays."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from kiln import paths
from kiln.errors import KilnError
from scripts import images, workspace

_CACHES = (".mypy_cache", ".pytest_cache", ".ruff_cache", ".ansible", ".hypothesis", "packer_cache")


def run() -> None:
    """Remove the build folder and the tools' caches.

    Raises
    ------
    KilnError
        A bake or a proof is working there, or something under it stays mounted; nothing is removed then.
    """
    build = paths.build_dir()
    with ExitStack() as held:
        for folder in sorted(build.glob("*/.lock")):
            held.enter_context(workspace.claim(folder.parent))
            workspace.sweep(folder.parent)
        versions = sum(len(listed) for listed in images.find().values())
        for path in (build, *(paths.ROOT / name for name in _CACHES)):
            workspace.remove_tree(path)
    print(f"removed {build} with {versions} version(s); downloads stay in {paths.cache_dir()}")


def main() -> int:
    """Run it; return the exit code."""
    try:
        run()
    except KilnError as error:
        print(f"error: {error.what}\n  fix: {error.hint}", file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
