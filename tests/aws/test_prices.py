"""Prices: the Price List API over HTTP, the dated table, and what neither knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import get_args

import pytest

from kiln import compat, paths
from launch import prices, reckoning
from launch.cloud import Cloud
from launch.prices import Book, Item, Price, Unknown
from tests.aws.price_list import PriceList, product, serve

G5 = Item("instance", "us-east-1", "g5.xlarge")


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[PriceList]:
    for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with serve() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", server.url)
        yield server


def _instance(usd: str, **more: str) -> dict[str, object]:
    attributes = {
        "regionCode": "us-east-1",
        "instanceType": "g5.xlarge",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "usagetype": "BoxUsage:g5.xlarge",
    }
    return product("AmazonEC2", attributes | more, usd)


def _book() -> Book:
    return Book(Cloud("us-east-1", "test"))


def test_the_api_goes_before_the_table(shop: PriceList) -> None:
    shop.products = [
        _instance("1.2500000000"),
        _instance("9.99", operatingSystem="Windows"),
        _instance("8.88", regionCode="eu-west-1"),
    ]
    found = _book().find(G5)
    assert found == Price(Decimal("1.25"), "AWS Price List API", date(2026, 11, 20))


def test_a_price_is_asked_for_once(shop: PriceList) -> None:
    shop.products = [_instance("1.25")]
    book = _book()
    assert book.find(G5) == book.find(G5)
    assert len(shop.asked) == 1


def test_usage_types_of_other_places_are_left_out(shop: PriceList) -> None:
    family = {"productFamily": "Load Balancer-Application", "regionCode": "eu-west-1"}
    usages = {
        "EU-LCUUsage": "0.008",
        "EU-TS-LoadBalancerUsage": "0.005",
        "EU-Outposts-LoadBalancerUsage": "0.03",
        "EU-LoadBalancerUsage": "0.0252",
    }
    shop.products = [product("AWSELB", family | {"usagetype": use}, usd) for use, usd in usages.items()]
    found = _book().find(Item("balancer", "eu-west-1", "application"))
    assert isinstance(found, Price)
    assert found.usd == Decimal("0.0252")


def test_throughput_is_told_by_the_mib(shop: PriceList) -> None:
    attributes = {
        "productFamily": "Provisioned Throughput",
        "volumeApiName": "gp3",
        "regionCode": "us-east-1",
    }
    usage = {"usagetype": "EBS:VolumeP-Throughput.gp3"}
    shop.products = [product("AmazonEC2", attributes | usage, "40.96", unit="GiBps-mo")]
    found = _book().find(Item("throughput", "us-east-1", "gp3"))
    assert isinstance(found, Price)
    assert found.usd == Decimal("0.04")


def test_users_of_shared_instances_pay_another_fee(shop: PriceList) -> None:
    family = {"productFamily": "User Fees", "regionCode": "us-east-1"}
    usages = {"USE1-Windows-Multi-Session-User": "6.42", "USE1-Windows-User": "4.19"}
    shop.products = [
        product("AmazonAppStream", family | {"usagetype": use}, usd, unit="user")
        for use, usd in usages.items()
    ]
    found = _book().find(Item("user", "us-east-1", "windows"))
    assert isinstance(found, Price)
    assert found.usd == Decimal("4.19")


def test_two_prices_are_none(shop: PriceList) -> None:
    shop.products = [_instance("1.25"), _instance("1.50", usagetype="USE1-BoxUsage:g5.xlarge")]
    found = _book().find(Item("instance", "us-east-1", "g5.xlarge"))
    assert isinstance(found, Price), "the table has it"
    assert found.source != "AWS Price List API"
    unknown = Item("fleet", "us-east-1", "Accelerated.g5.xlarge")
    told = _book().find(unknown)
    assert isinstance(told, Unknown)
    assert "has no prices" in told.why
    assert "prices.toml has none" in told.why


def test_what_may_not_be_asked_is_asked_once(shop: PriceList) -> None:
    shop.refusal = "AccessDeniedException"
    book = _book()
    for item in (G5, Item("volume", "us-east-1", "gp3"), Item("snapshot", "us-east-1", "standard")):
        found = book.find(item)
        assert isinstance(found, Price)
        assert found.source != "AWS Price List API"
    assert "AccessDeniedException" in book.unreached


def test_an_api_that_is_not_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, shop: PriceList) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", "http://127.0.0.1:9")
    book = _book()
    assert isinstance(book.find(G5), Price)
    assert "not reached" in book.unreached


@pytest.mark.parametrize("kind", get_args(prices.Kind))
def test_every_kind_can_be_asked_for_and_stands_in_the_table(kind: str) -> None:
    assert kind in prices.QUESTIONS
    assert isinstance(getattr(prices.table(), kind), dict)


def test_every_price_has_a_source_with_a_day() -> None:
    table = prices.table()
    used = {
        row.source
        for kind in get_args(prices.Kind)
        for rows in getattr(table, kind).values()
        for row in rows.values()
    }
    assert used == set(table.source), "a source that no price names"
    assert all(date(2015, 1, 1) < source.day <= datetime.now(UTC).date() for source in table.source.values())
    assert all(source.url.startswith("https://") for source in table.source.values())


def test_instance_types_of_the_table_are_known() -> None:
    for rows in prices.table().instance.values():
        for name in rows:
            assert compat.load().instance(name) is not None


def test_a_table_with_an_unknown_source_is_refused() -> None:
    data = prices.table().model_dump()
    data["volume"]["us-east-1"]["gp3"]["source"] = "hearsay"
    with pytest.raises(ValueError, match="unknown source 'hearsay'"):
        prices.Table.model_validate(data)


def test_the_builder_is_that_of_the_template() -> None:
    folder = paths.ROOT / "packer/monai-label"
    variables = (folder / "variables.pkr.hcl").read_text(encoding="utf-8")
    found = re.search(r'variable "instance_type" \{[^}]*default\s*=\s*"([^"]+)"', variables)
    assert found is not None
    assert found[1] == reckoning.BUILDER_TYPE
    throughput = re.search(
        r"throughput\s*=\s*(\d+)", (folder / "sources.pkr.hcl").read_text(encoding="utf-8")
    )
    assert throughput is not None
    assert int(throughput[1]) - 125 == reckoning.BUILDER_MIBPS
