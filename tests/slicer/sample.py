"""The role's sample volume, a synthetic CT: ``python -m tests.slicer.sample`` writes it anew."""

from __future__ import annotations

import gzip

import numpy as np

from kiln import paths

FILE = paths.ROOT / "ansible/roles/slicer/files/sample.nrrd"

SHAPE = (96, 96, 64)
"""Voxels of 3 mm: x, y, z."""

HEADER = f"""NRRD0004
# A synthetic CT that Kiln makes: a body of water, a spine, and where the spleen would be an ellipsoid.
type: short
dimension: 3
space: left-posterior-superior
sizes: {" ".join(str(side) for side in SHAPE)}
space directions: (3,0,0) (0,3,0) (0,0,3)
kinds: domain domain domain
endian: little
encoding: gzip
space origin: (-142.5,-142.5,-94.5)

"""


def voxels() -> np.ndarray:
    """Hounsfield units."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, side) for side in SHAPE], indexing="ij")
    made = np.full(SHAPE, -1000.0)
    made[x**2 / 0.8 + y**2 / 0.45 < 1] = 40
    made[(x + 0.1 * np.sin(3 * z)) ** 2 + (y - 0.4) ** 2 < 0.02] = 600
    made[((x - 0.45) / 0.22) ** 2 + ((y - 0.1) / 0.3) ** 2 + ((z - 0.1) / 0.45) ** 2 < 1] = 120
    return made.astype("<i2")


def volume() -> bytes:
    """The file as it is written here and now: another zlib may compress it otherwise."""
    return HEADER.encode() + gzip.compress(voxels().tobytes(order="F"), mtime=0)


if __name__ == "__main__":
    FILE.write_bytes(volume())
