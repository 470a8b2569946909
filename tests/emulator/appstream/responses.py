"""AppStream's requests: the parameters are the arguments of a function of the backend's rooms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult, BaseResponse

from tests.emulator.appstream import builders, fleets, images, imports, models, stacks, tags
from tests.emulator.clock import CLOCK

TAKES_TIME = ("DescribeFleets", "DescribeImageBuilders", "DescribeImages")
"""Requests that let time go by: what a launcher asks while it waits."""

CALLS: dict[str, Callable[..., dict[str, Any]]] = {
    **builders.CALLS,
    **fleets.CALLS,
    **images.CALLS,
    **imports.CALLS,
    **stacks.CALLS,
    **tags.CALLS,
}
"""Operation → function of backend and parameters, which returns the members of the answer."""


class AppStreamResponse(BaseResponse):
    """Answers for one account and region."""

    def __init__(self) -> None:
        super().__init__(service_name="appstream")
        self.automated_parameter_parsing = True


def _method(operation: str) -> Callable[[Any], Any]:
    def method(self: Any) -> Any:
        backend = models.appstream_backends[self.current_account][self.region]
        if operation in TAKES_TIME:
            CLOCK.described()
        given = {key: value for key, value in dict(self.params).items() if value is not None}
        return ActionResult(CALLS[operation](backend, **given))

    return method


for _operation in CALLS:
    _name = "".join(f"_{c.lower()}" if c.isupper() else c for c in _operation).lstrip("_")
    setattr(AppStreamResponse, _name.replace("_u_r_l", "_url"), _method(_operation))
