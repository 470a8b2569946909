"""``python -m kiln.schemas`` writes the schemas; ``--check`` fails where one is not what its model says."""

from __future__ import annotations

import argparse
import sys

from kiln import schemas

parser = argparse.ArgumentParser(prog="python -m kiln.schemas", description=__doc__)
parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
if not parser.parse_args().check:
    for path, text in schemas.files().items():
        path.write_text(text)
elif stale := schemas.stale():
    print(f"error: {', '.join(stale)} is not what kiln/manifest.py says", file=sys.stderr)
    print("  fix: .venv/bin/python -m kiln.schemas", file=sys.stderr)
    sys.exit(1)
