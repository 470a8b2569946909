"""What is promised of the upload, on small disks; ``make bench`` measures it on large ones."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import upload


def test_the_upload_sends_what_is_there_and_its_memory_does_not_grow(tmp_path: Path) -> None:
    """Sixteen times the disk. The time is judged only where nothing else runs."""
    found = upload.measure(tmp_path, 16, 256, rounds=1)
    assert found.bytes_over_nonzero <= 1.01
    assert found.memory_large_over_small <= 1.1
    assert found.over_read > 0
