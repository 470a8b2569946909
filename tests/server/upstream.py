"""Upstream's own tests of its endpoints, run against a server of ours through nginx.

They come in monailabel's wheel, as ``tests/unit/endpoints``; each asks ``self.client`` and knows the studies
folder. Upstream starts the application in the tests' own process: here the client is another one.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import requests

PACKAGE = "upstream_endpoints"


class Client:
    """Asks a server as starlette's TestClient asks an application.

    Parameters
    ----------
    url:
        Its address.
    token:
        Of who asks.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def __getattr__(self, method: str) -> Any:
        def ask(path: str, **options: Any) -> requests.Response:
            return self._session.request(method.upper(), f"{self._url}{path}", timeout=600, **options)

        return ask


def file(name: str) -> Path:
    """One of upstream's files.

    Raises
    ------
    FileNotFoundError
        The wheel does not bring it.
    """
    wanted = f"tests/unit/endpoints/{name}.py"
    for path in importlib.metadata.files("monailabel") or []:
        if str(path) == wanted:
            return Path(str(path.locate()))
    raise FileNotFoundError(f"monailabel's wheel has no {wanted}")


def suite(name: str, client: Client, studies: Path, sessions: Path) -> unittest.TestSuite:
    """Load one of upstream's files.

    Parameters
    ----------
    name:
        Such as ``test_datastore``.
    client:
        Asks the server.
    studies, sessions:
        Folders of the server, as they are seen here.
    """
    from monailabel.config import settings

    settings.MONAI_LABEL_SESSION_PATH = str(sessions)
    # What upstream's context.py does by starting the application.
    known = {"client": client, "studies": str(studies), "rand_id": 4711}
    context = types.ModuleType(f"{PACKAGE}.context")
    context.BasicEndpointTestSuite = type("Basic", (unittest.TestCase,), known)  # type: ignore[attr-defined]
    package = types.ModuleType(PACKAGE)
    package.__path__ = []
    sys.modules |= {PACKAGE: package, context.__name__: context}
    spec = importlib.util.spec_from_file_location(f"{PACKAGE}.{name}", file(name))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return unittest.defaultTestLoader.loadTestsFromModule(module)


def run(name: str, client: Client, studies: Path, sessions: Path) -> unittest.TestResult:
    """Run one of upstream's files; takes what :func:`suite` takes."""
    result = unittest.TestResult()
    suite(name, client, studies, sessions).run(result)
    return result
