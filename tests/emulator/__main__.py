"""``python -m tests.emulator [--port N]``: its address is the first line it prints."""

import sys

from tests.emulator.server import main

if __name__ == "__main__":
    sys.exit(main())
