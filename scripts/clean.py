"""``make clean``: removes what bakes and tests have made. Downloads stay in the cache; .venv stays."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from kiln import errors, paths
from kiln.errors import KilnError
from scripts import images, workspace

_CACHES = (".mypy_cache", ".pytest_cache", ".ruff_cache", ".ansible", ".hypothesis", "packer_cache")


def run() -> None:
    """Remove the build folder and the tools' caches.

    Raises
    ------
    KilnError
        A bake, a proof or a guest is at work there, or something under it stays mounted; nothing is removed
        then but what killed runs left.
    """
    build = paths.build_dir()
    with ExitStack() as held:
        for image in sorted(
            {path.parent for name in (".lock", workspace.WORK) for path in build.glob(f"*/{name}")}
        ):
            held.enter_context(workspace.claim(image))
            workspace.sweep(image)
            # kiln boot claims nothing, for it shares the image with a bake; its folder's lock tells of it.
            if left := sorted((image / workspace.WORK).glob("*/lock")):
                raise KilnError(
                    f"a guest of {image.name} is still running, in {left[0].parent}",
                    "end it first (Ctrl-C where kiln boot runs), then: make clean",
                )
        versions = sum(len(listed) for listed in images.find().values())
        for path in (build, *(paths.ROOT / name for name in _CACHES)):
            workspace.remove_tree(path)
    print(f"removed {build} with {versions} version(s); downloads stay in {paths.cache_dir()}")


if __name__ == "__main__":
    sys.exit(errors.main(run))
