"""The emulator's HTTP side: faults, validation and record in front of moto, ``/kiln-api/`` beside it."""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

# moto reads these where it is imported.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"
os.environ.pop("MOTO_ACCOUNT_ID", None)

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from tests.emulator import control, extensions, faults, fork, recorder, state, understand
from tests.emulator.control import Answer
from tests.emulator.understand import Asked

Start = Callable[..., Any]

INVALID: dict[str, str] = {
    "ec2": "InvalidParameterValue",
    "autoscaling": "ValidationError",
    "s3": "InvalidRequest",
}
"""Service → its code for a request that is not what its model says; the others say ValidationException."""


class GoneError(Exception):
    """The connection is to be closed without an answer."""


def _backend(service: str | None) -> Any:
    """Moto's application for a service, None where it found none that a request could be for."""
    if service is None:
        raise NotImplementedError("moto lacks the service")
    return create_backend_app(service)


class Emulator:
    """The application of WSGI."""

    def __init__(self) -> None:
        self.moto = DomainDispatcherApplication(_backend)
        self.rules = faults.Rules()
        self.record = recorder.Recorder()
        self.seen: dict[Any, Answer] = {}
        control.RESETS.append(self._forget)

    def _forget(self) -> None:
        self.rules.set([])
        self.record.clear()
        self.seen.clear()

    def listen(self, port: int) -> Any:
        """Make a server of this application on 127.0.0.1."""
        server = make_server("127.0.0.1", port, self, threaded=True, request_handler=Handler)
        server.daemon_threads = True  # type: ignore[attr-defined]
        return server

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/kiln-api/"):
            status, headers, body = self._control(environ)
        elif environ["PATH_INFO"].startswith(("/moto-api", "/latest/")):
            return self.moto(environ, start)  # type: ignore[no-any-return]
        else:
            try:
                status, headers, body = self._serve(environ)
            except GoneError:
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                raise ConnectionAbortedError from None
        kept = [(key, value) for key, value in headers if key.lower() not in ("content-length", "connection")]
        length = next((value for key, value in headers if key.lower() == "content-length"), str(len(body)))
        start(f"{status} {'OK' if status < 300 else 'Error'}", [*kept, ("Content-Length", length)])
        return [body]

    def _serve(self, environ: dict[str, Any]) -> Answer:
        asked = understand.read(environ)
        entry = self.record.note(asked, environ)
        latency = control.SETTINGS["latency"]
        if latency:
            time.sleep(latency)
        rule = self.rules.pick(asked)
        if rule:
            entry.fault = rule["fault"]
            status, headers, body = self._faulty(rule, asked, entry.wrong, environ)
        else:
            status, headers, body = self._act(asked, entry.wrong, environ)
        self.record.answered(entry, status, headers, body)
        return status, headers, body

    def _faulty(
        self, rule: dict[str, Any], asked: Asked, wrong: list[str], environ: dict[str, Any]
    ) -> Answer:
        kind = rule["fault"]
        if kind in ("throttle", "5xx", "error"):
            return faults.error(rule, asked)
        if kind == "reset":
            raise GoneError
        if kind == "slow":
            time.sleep(float(rule["seconds"]))
        elif kind == "timeout" and not rule.get("acts"):
            _until_gone(environ["werkzeug.socket"], float(rule.get("seconds", 70)))
            raise GoneError
        elif kind == "hook" and rule.get("when", "after") == "before" and not self.rules.hold(asked):
            raise GoneError
        elif kind == "stale" and (old := self.seen.get(_key(asked))):
            return old
        answer = self._act(asked, wrong, environ)
        if kind == "timeout":
            _until_gone(environ["werkzeug.socket"], float(rule.get("seconds", 70)))
            raise GoneError
        if kind == "lost":
            raise GoneError
        if kind == "hook" and rule.get("when", "after") == "after" and not self.rules.hold(asked):
            raise GoneError
        return answer

    def _act(self, asked: Asked, wrong: list[str], environ: dict[str, Any]) -> Answer:
        if wrong and asked.service:
            return faults.answer(
                asked, 400, INVALID.get(asked.service, "ValidationException"), "; ".join(wrong)
            )
        with control.LOCK:
            for gate in control.GATES:
                if refused := gate(asked, environ):
                    return refused
        own = control.OWN.get((asked.service, asked.operation))
        if own:
            answer = own(asked, environ)
        else:
            with control.LOCK:
                answer = self._moto(asked, environ)
        if not recorder.mutating(asked):
            self.seen[_key(asked)] = answer
        return answer

    def _moto(self, asked: Asked, environ: dict[str, Any]) -> Answer:
        got: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
            got[:] = [int(status.split()[0]), list(headers)]

        what = f"{asked.service or environ['PATH_INFO']}:{asked.operation or environ['REQUEST_METHOD']}"
        try:
            body = b"".join(self.moto(environ, start))
        except NotImplementedError as error:
            # 501 is not tried again by botocore: a gap must not look like an outage.
            return faults.answer(asked, 501, "NotEmulated", f"the emulator has no {what}: {error}")
        except Exception:
            text = traceback.format_exc()
            print(f"the emulator failed at {what}:\n{text}", file=sys.stderr, flush=True)
            return faults.answer(asked, 501, "EmulatorDefect", f"{what}: {text.strip().splitlines()[-1]}")
        status, headers = got
        if status == 404 and body.startswith((b"<!doctype html>", b"Not yet")):
            return faults.answer(asked, 501, "NotEmulated", f"the emulator has no {what}")
        return status, headers, body

    def _control(self, environ: dict[str, Any]) -> Answer:
        data = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        path = environ["PATH_INFO"].removeprefix("/kiln-api/")
        query = {key: values[0] for key, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
        try:
            result = self._told(environ["REQUEST_METHOD"], path, query, json.loads(data) if data else None)
        except Exception as error:
            text = "".join(traceback.format_exception(error))
            return 400, [("content-type", "text/plain")], text.encode()
        body = json.dumps(result, default=str, sort_keys=True).encode()
        return 200, [("content-type", "application/json")], body

    def _told(self, method: str, path: str, query: dict[str, str], data: Any) -> Any:
        if path == "faults":
            if method == "POST":
                self.rules.set(data)
            return self.rules.as_json()
        if path == "held":
            return self.rules.wait_held(float(query.get("seconds", 30)))
        if path == "release":
            return self.rules.release(drop=bool((data or {}).get("drop")))
        if path == "requests":
            return self.record.as_json(int(query.get("since", 0)))
        if path == "settings":
            unknown = set(data or {}) - set(control.DEFAULTS)
            if unknown:
                raise ValueError(f"there is no setting {', '.join(sorted(unknown))}")
            control.SETTINGS.update(data or {})
            return control.SETTINGS
        if path == "reset":
            control.reset()
            return None
        if path == "fork":
            return fork.fork(lambda server: server.serve_forever(), lambda: self.listen(0))
        if path == "state":
            with control.LOCK:
                return state.all_of_it(raw="raw" in query)
        if path.startswith("do/"):
            with control.LOCK:
                return control.ACTIONS[path.removeprefix("do/")](**(data or {}))
        raise ValueError(f"there is no /kiln-api/{path}")


def _key(asked: Asked) -> Any:
    return asked.service, asked.operation, asked.region, asked.access_key, repr(asked.params)


def _until_gone(connection: socket.socket, seconds: float) -> None:
    """Wait until the client closes its side, or for so long."""
    select.select([connection], [], [], seconds)


class Handler(MotoRequestHandler):
    """Silent: what was asked is in the record."""

    # Each answer is written in two pieces; with Nagle's algorithm the second would wait for an ACK.
    disable_nagle_algorithm = True

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        """Say nothing, but of errors of the server itself."""
        if type == "error" and "ConnectionAbortedError" not in message:
            print(message % args if args else message, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal ends it.

    Returns
    -------
    int
        0.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args(argv)
    extensions.install()
    server = Emulator().listen(options.port)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    # Nothing is to be saved, and what a hook holds would wait for ever.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # copies that have ended leave nothing behind
    server.serve_forever()
    return 0
