"""Make what the server would make or download at its first start: weights, bytecode, the font cache.

Run once per image, as the service's user. Says on standard output what it made.
"""

from __future__ import annotations

import argparse
import compileall
import sys
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any


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
    parser.add_argument("--done", type=Path, required=True, help="file that says that all of this was done")
    options = parser.parse_args()

    # checked: an operator may edit the app in place.
    compileall.compile_dir(options.app, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    for config in configs(options.app, options.models.split(","), options.seed):
        if made := weights(config, options.weights):
            print(f"{options.weights} weights: {made.name}")

    import matplotlib.font_manager  # noqa: F401 - writes its cache to MPLCONFIGDIR when there is none

    options.done.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
