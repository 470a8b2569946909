"""What the real server has and does: runs in the baked root with the server's own Python, prints JSON last.

``python - SOURCE < real_server.py`` by chroot, with kiln_identity.py's text as JSON. Needs no model, no GPU
and no service: only upstream's application, imported.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Iterator
from typing import Any


def routes(router: Any) -> Iterator[tuple[str, str]]:
    """Method and path of all routes, also of those that upstream leaves out of its OpenAPI."""
    for route in router.routes:
        if hasattr(route, "original_router"):
            yield from routes(route.original_router)
        elif getattr(route, "methods", None):
            yield from ((method, route.path) for method in route.methods)
        else:  # a folder of files
            yield from ((method, route.path + "/{path:path}") for method in ("GET", "HEAD"))


class Store:
    """Notes what it is told, instead of the application and its datastore."""

    def __init__(self) -> None:
        self.noted: list[list[Any]] = []

    def datastore(self) -> Store:
        return self

    def on_save_label(self, image: str, label: str) -> None:
        pass

    def add_image(self, image: str, file: str, params: dict[str, Any]) -> str:
        self.noted.append(["image", image, params])
        return image

    def save_label(self, image: str, file: str, tag: str, params: dict[str, Any]) -> str:
        self.noted.append(["label", image, params])
        return image

    def update_label_info(self, label: str, tag: str, info: dict[str, Any]) -> None:
        self.noted.append(["info", label, info])


def told(app: Any, identity: Any) -> list[list[Any]]:
    """What the datastore is told of users, by upstream's own endpoints."""
    from monailabel.endpoints import datastore
    from monailabel.endpoints.user.auth import User, get_current_user
    from starlette.testclient import TestClient

    store = Store()
    datastore.app_instance = lambda: store
    for _ in range(2):  # twice is once
        identity.mount(app, datastore, get_current_user, User)
    client = TestClient(app)
    file = {"label": ("a.nii.gz", b"x")}
    for sent in ({"x-kiln-user": "ann"}, {}):
        client.put("/datastore/label?image=a", data={"params": '{"label_info": [], "user": "forged"}'},
                   files=file, headers=sent).raise_for_status()  # fmt: skip
    headers = {"x-kiln-user": "bob"}
    client.put("/datastore/label?image=b", files=file, headers=headers).raise_for_status()
    client.put("/datastore/?image=c", files={"file": ("c.nii", b"x")}, headers=headers).raise_for_status()
    client.put(
        "/datastore/label/info?label=d&tag=final", data={"info": "{}"}, headers=headers
    ).raise_for_status()
    return store.noted


def main() -> None:
    identity = types.ModuleType("kiln_identity")
    exec(json.loads(SOURCE), identity.__dict__)

    from monailabel.app import app

    found = sorted(set(routes(app.router)))
    shown = sorted(
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if method in ("get", "put", "post", "delete", "patch", "head", "options")
    )
    plain = {(method, re.sub(r":\w+}", "}", path)) for method, path in found}
    print(
        json.dumps(
            {"routes": found, "openapi": shown, "missed": sorted(set(shown) - plain),
             "told": told(app, identity)}
        )
    )  # fmt: skip


SOURCE = sys.argv[1]
main()
