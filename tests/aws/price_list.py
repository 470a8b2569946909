"""AWS's Price List API on a port of this machine: products in AWS's own form, filters, pages, refusals."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE = 2
"""Products on a page: few, so that a caller who reads one page only is found out."""


def product(
    service: str,
    attributes: dict[str, str],
    usd: str,
    *,
    unit: str = "Hrs",
    published: str = "2026-11-20T01:02:03Z",
) -> dict[str, Any]:
    """A product as GetProducts gives it; the family goes among the attributes for the filter's sake.

    Parameters
    ----------
    service:
        Its ServiceCode.
    attributes:
        What a filter asks for; ``productFamily`` is put where AWS has it.
    usd:
        Dollars a unit.
    unit, published:
        As AWS writes them.
    """
    family = attributes.get("productFamily", "Compute Instance")
    rest = {key: value for key, value in attributes.items() if key != "productFamily"}
    dimension = {"unit": unit, "description": f"${usd} per {unit}", "pricePerUnit": {"USD": usd}}
    return {
        "product": {"productFamily": family, "attributes": rest, "sku": f"SKU{abs(hash(str(attributes)))}"},
        "serviceCode": service,
        "terms": {"OnDemand": {"SKU.TERM": {"priceDimensions": {"SKU.TERM.RATE": dimension}}}},
        "version": "20261120010203",
        "publicationDate": published,
    }


@dataclass
class PriceList:
    """What the server sells.

    Parameters
    ----------
    url:
        Where it listens.
    products:
        Every product there is.
    refusal:
        An error's code to answer with instead of prices.
    asked:
        The filters of each request.
    """

    url: str
    products: list[dict[str, Any]] = field(default_factory=list)
    refusal: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer GetProducts."""
        if self.refusal:
            return 400, {"__type": self.refusal, "message": "not allowed here"}
        wanted = {each["Field"]: each["Value"] for each in request.get("Filters", [])}
        self.asked.append(wanted)
        found = [
            each
            for each in self.products
            if each["serviceCode"] == request["ServiceCode"]
            and wanted.items()
            <= {"productFamily": each["product"]["productFamily"], **each["product"]["attributes"]}.items()
        ]
        start = int(request.get("NextToken", "0"))
        page = {
            "FormatVersion": "aws_v1",
            "PriceList": [json.dumps(each) for each in found[start : start + PAGE]],
        }
        return 200, page | ({"NextToken": str(start + PAGE)} if len(found) > start + PAGE else {})


@contextmanager
def serve() -> Iterator[PriceList]:
    """Run the server until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
            status, answer = prices.answer(body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    prices = PriceList(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield prices
    finally:
        server.shutdown()
        server.server_close()
