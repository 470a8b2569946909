"""A studies folder that any number of MONAI Label servers share without losing a label.

``store`` is the store, on ``tree`` (folders), ``lock``, ``index``, ``scan`` and ``earlier`` (versions); these
need the standard library alone. ``monai`` makes MONAI Label use it, ``tasks`` its background tasks, and
``python -m kiln_store`` writes, reads and checks a folder without a server.
"""
