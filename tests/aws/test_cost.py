"""kiln cost against the emulator: sizes from live groups and fleets, prices from the list or the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from kiln import cli, config
from kiln.errors import KilnError
from launch import cost
from launch.cloud import Cloud
from launch.cost_lines import HOURS, group_cost
from launch.prices import Book
from tests.aws.conftest import Seeded
from tests.aws.price_list import PriceList, product, serve
from tests.emulator.handle import Emulator
from tests.unit import contract

ONLY_GROUP = """
[project]
name = "kiln"
owner = "imaging-platform"

[image.monai-label]
app = "radiology"
models = ["segmentation_spleen"]
weights = "random"
driver = "debian"
instance_types = ["g5.xlarge", "g4dn.xlarge"]
root_gb = 40
playbook = "{root}/ansible/playbooks/monai_label.yml"
template = "{root}/packer/monai-label"

[image.monai-label.publish]
regions = ["us-east-1", "eu-west-1"]
keep = 5

[target.annotators]
image = "monai-label"
channel = "stable"
region = "us-east-1"
group = "kiln-annotators"
"""

BUILDER = """
[image.slicer.appstream.builder]
base = "AppStream-WinServer2022-10-08-2026"
instance_type = "Accelerated.g5.xlarge"
subnet = "subnet-0123456789abcdef0"
security_groups = ["sg-0123456789abcdef0"]
secret = "ssm:/kiln/builder"

[[image.slicer.appstream.applications]]
name = "Slicer"
path = 'C:\\Slicer\\Slicer.exe'
"""


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Path) -> Path:
    from kiln import paths

    path = tmp_path / "kiln.toml"
    path.write_text(ONLY_GROUP.format(root=paths.ROOT))
    monkeypatch.setenv("KILN_CONFIG", str(path))
    return path


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[PriceList]:
    with serve() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", server.url)
        yield server


def _printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    code = cli.run(["cost", "--json", *arguments])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}


def test_a_group_costs_what_runs_in_it(
    seeded: Seeded, toml: Path, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = _printed(capsys)
    assert code == 0, said
    lines = {line["what"]: line for line in said["lines"]}  # type: ignore[attr-defined]
    assert lines["4 × g5.xlarge"]["usd"] == pytest.approx(4 * 1.006 * 730)
    assert lines["4 × g5.xlarge"]["usd_hourly"] == pytest.approx(4 * 1.006)
    assert lines["4 × root volume, 40 GiB gp3"]["usd"] == pytest.approx(4 * 40 * 0.08)
    assert lines["load balancer kiln-annotators"]["usd"] == pytest.approx(0.0225 * 730, abs=1e-4)
    assert said["usd_hourly"] == pytest.approx(said["usd_monthly"] / 730, abs=1e-3)  # type: ignore[operator]
    assert {line["date"] for line in lines.values()} > {"2026-08-17"}
    assert any("Price List API did not answer" in note for note in said["notes"])  # type: ignore[attr-defined]


def test_it_asks_and_changes_nothing(seeded: Seeded, toml: Path, emulator: Emulator) -> None:
    before = len(emulator.requests())
    assert cli.run(["cost"]) == 0
    assert emulator.mutating(before) == []


def test_the_price_list_is_asked_where_it_answers(
    seeded: Seeded, toml: Path, shop: PriceList, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.products = [
        product(
            "AmazonEC2",
            {
                "regionCode": "us-east-1",
                "instanceType": "g5.xlarge",
                "operatingSystem": "Linux",
                "tenancy": "Shared",
                "preInstalledSw": "NA",
                "capacitystatus": "Used",
                "usagetype": "BoxUsage:g5.xlarge",
            },
            "2.0000000000",
        )
    ]
    code, said = _printed(capsys)
    assert code == 0
    line = next(each for each in said["lines"] if each["what"] == "4 × g5.xlarge")  # type: ignore[attr-defined]
    assert line["unit_price"] == 2.0
    assert line["source"] == "AWS Price List API"
    assert line["date"] == "2026-11-20"
    other = next(each for each in said["lines"] if "snapshot" in each["what"])  # type: ignore[attr-defined]
    assert other["date"] == "2026-05-01", "what the list has not comes from the table"


def test_offline_asks_nobody(toml: Path, emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(emulator.requests())
    code, said = _printed(capsys, "--offline")
    assert code == 0
    assert len(emulator.requests()) == before
    assert any("one instance was taken" in note for note in said["notes"])  # type: ignore[attr-defined]


def test_without_credentials_the_table_is_taken(
    toml: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    code, said = _printed(capsys)
    assert code == 0
    assert any("AWS was not asked" in note for note in said["notes"])  # type: ignore[attr-defined]


def test_what_could_not_be_determined_is_no_zero(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml.write_text(toml.read_text().replace('region = "us-east-1"', 'region = "sa-east-1"'))
    capsys.readouterr()
    assert cli.run(["cost", "--json", "--offline"]) == 1
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["usd_monthly"] is None
    assert said["usd_hourly"] is None
    assert "target annotators: 1 × g5.xlarge" in said["undetermined"]
    assert err.splitlines()[0].startswith("error: could not determine 2 of")
    assert len(err.splitlines()) == 2
    assert cli.run(["cost", "--offline"]) == 1
    assert "could not determine" in capsys.readouterr().out


def test_a_local_bake_tells_sizes_and_hours(
    toml: Path, build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract.put(build, "monai-label", verdict="passed")
    code, said = _printed(capsys, "--offline")
    assert code == 0
    whats = [line["what"] for line in said["lines"]]  # type: ignore[attr-defined]
    assert "5 × snapshot of 0.1 GiB in us-east-1" in whats
    assert "builder m6i.xlarge, 0.01 h" in whats


def test_each_region_keeps_its_snapshots(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = _printed(capsys, "--offline")
    snapshots = [line for line in said["lines"] if "snapshot" in line["what"]]  # type: ignore[attr-defined]
    assert [line["usd"] for line in snapshots] == [5 * 40 * 0.05] * 2


def test_a_fleet_costs_by_its_kind(
    kiln_toml: Path, client, shop: PriceList, cloud: Cloud, build: Path
) -> None:
    shop.products = [
        product(
            "AmazonAppStream",
            {
                "regionCode": "us-east-1",
                "instanceType": "Accelerated.g5.xlarge",
                "instanceFunction": function,
                "operatingSystem": "Windows",
                "usagetype": f"USE1-{function}",
            },
            usd,
        )
        for function, usd in (("Fleet", "1.50"), ("ImageBuilder", "1.40"))
    ]
    text = kiln_toml.read_text().replace(
        'fleet = "kiln-readers"',
        'fleet = "kiln-readers"\ninstance_type = "Accelerated.g5.xlarge"\ncapacity = 3',
    )
    kiln_toml.write_text(text + BUILDER)
    loaded = config.load()
    only = loaded.model_copy(update={"target": {"readers": loaded.aim("readers")}})
    cost_ = cost.reckon(only, Book(cloud), None)
    lines = {line.what: line for line in cost_.lines if line.of in ("target readers", "image slicer")}
    assert lines["3 × Accelerated.g5.xlarge"].usd == 3 * Decimal("1.50") * HOURS
    assert lines["image builder Accelerated.g5.xlarge, 3 h"].usd == Decimal("4.20")
    assert lines["a user in a month"].per == "use"


def test_a_group_before_and_after() -> None:
    book = Book(None)
    now = group_cost(book, "us-east-1", {"g5.xlarge": 2}, 40)
    after = group_cost(book, "us-east-1", {"g5.xlarge": 1, "g4dn.xlarge": 1}, 60, stopped=1)
    assert now.monthly == pytest.approx(2 * 1.006 * 730 + 2 * 40 * 0.08)
    assert now.hourly == pytest.approx(now.monthly / 730, abs=1e-4)
    assert after.monthly == pytest.approx((1.006 + 0.526) * 730 + 3 * 60 * 0.08)
    assert "a month" in now.said()
    assert group_cost(book, "us-east-1", {}, 40).monthly == 0


def test_a_group_of_unknown_price_has_no_sum() -> None:
    made = group_cost(Book(None), "sa-east-1", {"g5.xlarge": 2}, 40)
    assert made.monthly is None
    assert made.hourly is None
    assert "could not determine the cost of 2 × g5.xlarge" in made.said()


def test_a_fleet_without_a_known_type_is_told(kiln_toml: Path, build: Path) -> None:
    with pytest.raises(KilnError, match="could not determine the instance type of kiln-readers"):
        cost.run(offline=True)
