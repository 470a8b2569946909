"""Who is behind a request, for the MONAI Label server: the gateway's header becomes upstream's user.

Upstream without its own auth takes everybody for "admin", and writes no user into a label's metadata at all.
kiln_serve.py calls :func:`mount` once, before the server listens::

    from monailabel.app import app
    from monailabel.endpoints import datastore
    from monailabel.endpoints.user.auth import User, get_current_user
    kiln_identity.mount(app, datastore, get_current_user, User)

The header counts because nobody but nginx reaches the server: it listens on loopback, and nginx sets the
header anew on every request. It decides nothing: the gateway has let the request pass already.
"""

from __future__ import annotations

import contextvars
import inspect
import json
from collections.abc import Awaitable, Callable, MutableMapping
from functools import wraps
from typing import Any

HEADER = b"x-kiln-user"
"""As ASGI has it."""

LOCAL = "local"
"""Who asks without the gateway, as a health check does."""

ROLE = "monailabel-user"

current: contextvars.ContextVar[str] = contextvars.ContextVar("kiln_user", default=LOCAL)
"""Name of who is behind the request that is being answered."""

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class Identity:
    """ASGI middleware that notes who is behind a request.

    Parameters
    ----------
    app:
        What answers.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer a request."""
        names = [value for name, value in scope.get("headers", []) if name == HEADER]
        token = current.set(names[0].decode("latin-1") if len(names) == 1 and names[0] else LOCAL)
        try:
            await self.app(scope, receive, send)
        finally:
            current.reset(token)


def named(params: str | None) -> str:
    """Metadata of a label with the user's name in it, whatever name the client has put there.

    Parameters
    ----------
    params:
        JSON as the client has sent it.

    Raises
    ------
    ValueError
        It is no JSON object.
    """
    found = json.loads(params or "{}")
    if not isinstance(found, dict):
        raise ValueError("params must be a JSON object")
    return json.dumps({**found, "user": current.get()})


def naming(save_label: Callable[..., Any]) -> Callable[..., Any]:
    """Make upstream's ``save_label`` note the user, which it is told and leaves out.

    Parameters
    ----------
    save_label:
        ``monailabel.endpoints.datastore.save_label``.

    Raises
    ------
    RuntimeError
        It has no ``params``: upstream has changed, and the name would be lost silently.
    """
    signature = inspect.signature(save_label)
    if "params" not in signature.parameters:
        raise RuntimeError("save_label of this MONAI Label has no params: see kiln_identity.py")

    @wraps(save_label)
    def saving(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        call.arguments["params"] = named(call.arguments.get("params"))
        return save_label(*call.args, **call.kwargs)

    return saving


def mount(app: Any, datastore: Any, get_current_user: Callable[..., Any], user: Callable[..., Any]) -> None:
    """Tell upstream who is behind each request; calling it twice changes nothing.

    Parameters
    ----------
    app:
        ``monailabel.app.app``, before it answers its first request.
    datastore:
        The module ``monailabel.endpoints.datastore``.
    get_current_user, user:
        From ``monailabel.endpoints.user.auth``.
    """
    if get_current_user in app.dependency_overrides:
        return

    async def somebody() -> Any:
        return user(username=current.get(), roles=[ROLE])

    # Upstream's own place for the user: images' and labels' info take the name from there.
    app.dependency_overrides[get_current_user] = somebody
    datastore.save_label = naming(datastore.save_label)
    app.add_middleware(Identity)
