"""Make what the server would make or download at its first start: weights, bytecode, the font cache.

Then start the server once, and write on standard output what that read, for ``kiln_readahead.py``. Run once
per image, as the service's user. Says on standard error what it made.
"""

from __future__ import annotations

import argparse
import compileall
import gc
import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

import kiln_serve
import kiln_watch


def settings(text: str) -> dict[str, str]:
    """Variables of a file that systemd reads as EnvironmentFile, as our template writes it."""
    return {
        name: value[1:-1] if value[:1] == value[-1:] == "'" else value
        for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
    }


def on_trial(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Settings of a start that nobody reaches and that leaves nothing outside a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logging = folder / "logging.json"
    logging.write_text(json.dumps({"version": 1, "disable_existing_loggers": False}), encoding="utf-8")
    return {
        **environment,
        "KILN_SERVE_HOST": "127.0.0.1",
        "KILN_SERVE_PORT": str(port),
        "KILN_SERVE_LOGGING": str(logging),
        "MONAI_LABEL_STUDIES": str(folder),
        "MONAI_LABEL_SESSION_PATH": str(folder / "sessions"),
        # Links into this folder would stay in the app.
        "KILN_STORE_MODELS": "no",
    }


def configs(app: Path, models: list[str], seed: int) -> list[Any]:
    """The app's own configuration of each model, with a network whose weights follow from the seed.

    Parameters
    ----------
    app:
        Folder of the app.
    models:
        Names as ``--conf models`` takes them.
    seed:
        Seed of torch, set anew for each model so that one model's weights do not depend on another's.

    Raises
    ------
    SystemExit
        The app has no such model.
    """
    sys.path.insert(0, str(app))
    import lib.configs
    import torch
    from monailabel.utils.others.class_utils import get_class_names
    from monailabel.utils.others.planner import HeuristicPlanner

    known = {path.split(".")[-2].lower(): path for path in get_class_names(lib.configs, "TaskConfig")}
    if unknown := [name for name in models if name not in known]:
        raise SystemExit(
            f"kiln_prepare: {app.name} has no model {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    planner = HeuristicPlanner(spatial_size=[48, 48, 32], target_spacing=[1.0, 1.0, 1.0])
    found = []
    for name in models:
        module, _, attribute = known[name].rpartition(".")
        config = getattr(sys.modules[module], attribute)()
        torch.manual_seed(seed)
        config.init(name, str(app / "model"), {"use_pretrained_model": "false"}, planner)
        found.append(config)
    return found


def weights(config: Any, origin: str) -> Path | None:
    """Make sure of a model's pretrained file; return it if it was made here.

    Parameters
    ----------
    config:
        The model's configuration, as ``configs`` returns it.
    origin:
        ``random`` saves the network as it is, ``pinned`` demands that the file is there.

    Raises
    ------
    SystemExit
        The file is missing and may not be made.
    """
    import torch

    path = Path(config.path[0])
    if path.exists():
        return None
    if origin != "random":
        raise SystemExit(
            f"kiln_prepare: {path.name} is missing; pin it with: kiln pins add monai_label {path.name} URL"
        )
    path.parent.mkdir(exist_ok=True)
    torch.save(config.network.state_dict(), path)
    return path


def main() -> int:
    """Prepare an app; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app", type=Path, required=True, help="folder of the app")
    parser.add_argument("--models", required=True, help="names, separated by commas")
    parser.add_argument(
        "--weights", choices=["random", "pinned"], required=True, help="origin of the weights"
    )
    parser.add_argument("--seed", type=int, required=True, help="seed of random weights")
    parser.add_argument("--environment", type=Path, required=True, help="settings of the service")
    parser.add_argument(
        "--within", required=True, help="folders besides /usr whose files are listed, with commas"
    )
    parser.add_argument("--done", type=Path, required=True, help="file that says that all of this was done")
    options = parser.parse_args()

    # The list alone goes to standard output, whatever the server prints.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogateescape")
    os.dup2(2, 1)
    watch = kiln_watch.Watch()
    gc.disable()  # as the server does while it starts
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(on_trial(settings(options.environment.read_text()), Path(folder)))
        server = kiln_serve.server(os.environ)
        # Imported first, so that the order is a start's own.
        server.config.load()
        # checked: an operator may edit the app in place.
        compileall.compile_dir(options.app, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        for config in configs(options.app, options.models.split(","), options.seed):
            if made := weights(config, options.weights):
                print(f"{options.weights} weights: {made.name}")

        import matplotlib.font_manager  # noqa: F401 - writes its cache to MPLCONFIGDIR when there is none

        kiln_serve.notify = lambda _: setattr(server, "should_exit", True)
        server.run()
    if server.failed or not server.started:
        raise SystemExit("kiln_prepare: the server does not start; what it says is above")
    with out:
        out.write(kiln_watch.lines(watch.ranges([*options.within.split(","), "/usr"])))
    options.done.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
