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
from unittest import mock

import requests

PACKAGE = "upstream_endpoints"

RUN = {
    "test_activelearning": (),
    "test_datastore": (),
    "test_info": (),
    "test_logs": ("test_logs_gpu",),
    "test_scoring": ("test_epistemic", "test_strategy_epistemic", "test_bundle_epistemic"),
    "test_session": (),
}
"""Upstream's files that are run, and what of each is not: it needs a GPU, or a strategy that no app has."""

GPU = "does nothing without a GPU"
LEFT_OUT = {
    "test_batch_infer": f"{GPU} but ask for a status, whose answer nobody looks at; waits by run_sync",
    "test_dicomwebcache": "puts answers of an archive into the server's own process",
    "test_infer": GPU,
    "test_infer_v2": GPU,
    "test_infer_wsi": GPU,
    "test_model": "asks for deepedit, which no image has; test_client.py has the same calls of another model",
    "test_ohif": "asks that the server has no OHIF; the wheel brings it",
    "test_proxy": "looks at no answer, and puts that of an archive into the server's own process",
    "test_scoring_v2": "looks at no answer: the one test that would is switched off",
    "test_train": f"{GPU} but ask for a status, whose answer nobody looks at; waits by run_sync",
}
"""Upstream's other files → why they are not run."""

SUITES = (
    "BasicEndpointTestSuite",
    "BasicEndpointV2TestSuite",
    "BasicEndpointV3TestSuite",
    "BasicBundleV2TestSuite",
)
"""Classes of upstream's context.py: each starts the application with another app of upstream's."""


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


def names() -> set[str]:
    """Upstream's files, as far as their names say that they are tests."""
    found = (Path(str(path)) for path in importlib.metadata.files("monailabel") or [])
    return {
        path.stem
        for path in found
        if path.match("tests/unit/endpoints/test_*.py") and path.parts[0] == "tests"
    }


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
    vars(context).update({each: type(each, (unittest.TestCase,), known) for each in SUITES})
    # They ask it whether there is a GPU. It is not installed here, and here is not where the server runs.
    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(is_available=lambda: False)  # type: ignore[attr-defined]
    package = types.ModuleType(PACKAGE)
    package.__path__ = []
    sys.modules |= {PACKAGE: package, context.__name__: context}
    spec = importlib.util.spec_from_file_location(f"{PACKAGE}.{name}", file(name))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {"torch": torch}):
        spec.loader.exec_module(module)
    loaded = unittest.defaultTestLoader.loadTestsFromModule(module)
    return unittest.TestSuite(
        test
        for suite in loaded
        for test in suite  # type: ignore[union-attr]
        if test.id().rpartition(".")[2] not in RUN[name]
    )


def run(name: str, client: Client, studies: Path, sessions: Path) -> unittest.TestResult:
    """Run one of upstream's files; takes what :func:`suite` takes."""
    result = unittest.TestResult()
    suite(name, client, studies, sessions).run(result)
    return result
