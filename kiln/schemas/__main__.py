"""``python -m kiln.schemas`` writes the schemas; ``--check`` fails where one is not what its model says."""

from __future__ import annotations

import argparse
import sys

from kiln import errors, schemas


def run() -> None:
    """Run the command line.

    Raises
    ------
    KilnError
        A file is not what its model says.
    """
    parser = argparse.ArgumentParser(prog="python -m kiln.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    if not parser.parse_args().check:
        for path, text in schemas.files().items():
            path.write_text(text)
    elif stale := schemas.stale():
        what = f"{', '.join(stale)} is not what its model says"
        raise errors.KilnError(what, "run: .venv/bin/python -m kiln.schemas")


if __name__ == "__main__":
    sys.exit(errors.main(run))
