"""slicer.limits_tested: limits of which kiln takes a value just inside, and refuses one just outside.

``python -m tests.benchmarks.slicer_limits``. It takes a second; the same limits are tests of ``tests/unit``.
"""

from __future__ import annotations

import sys

from kiln import errors, figures
from kiln.errors import KilnError
from tests.aws.appstream_limits import LIMITS


def run() -> None:
    """Try every limit, and write the figure.

    Raises
    ------
    KilnError
        A limit is not where the service has it.
    """
    wrong = [limit.name for limit in LIMITS if not limit.takes(limit.inside) or limit.takes(limit.outside)]
    tested = len(LIMITS) - len(wrong)
    print(f"{tested} of {len(LIMITS)} limits")
    figures.write("slicer.limits_tested", tested, "python -m tests.benchmarks.slicer_limits")
    if wrong:
        raise KilnError(f"not where AppStream has it: {', '.join(wrong)}", "see kiln/appstream.py")


if __name__ == "__main__":
    sys.exit(errors.main(run))
