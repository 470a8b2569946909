"""Imports every module of the list, in the order in which the server did; nothing else.

``import_all.py MODULES [--without-gc]``
"""

from __future__ import annotations

import gc
import importlib
import json
import sys

if "--without-gc" in sys.argv:
    gc.disable()
with open(sys.argv[1], encoding="utf-8") as stream:
    wanted = json.load(stream)
sys.path[:] = wanted["path"]
missed = []
for name in wanted["names"]:
    if name in sys.modules:
        continue
    try:
        importlib.import_module(name)
    except Exception as error:  # modules that a program made itself have no file to import
        missed.append(f"{name}: {error!r}")
# A few are made at run time (torch.ops, six.moves); many would mean that the list was not imported.
if len(missed) > len(wanted["names"]) * 0.05:
    sys.exit(f"{len(missed)} of {len(wanted['names'])} modules cannot be imported: {missed[:5]}")
print(f"imported {len(wanted['names']) - len(missed)} of {len(wanted['names'])}", file=sys.stderr)
