"""Records in S3: nothing is overwritten blindly, and a lost answer is found to have acted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln import config
from kiln.errors import KilnError, UsageError
from launch.cloud import Cloud, UnannouncedError
from launch.records import ChangedError, Records, Revocation, now, written
from tests.aws.conftest import BUCKET
from tests.emulator.handle import Emulator


@pytest.fixture
def records(cloud: Cloud, kiln_toml: Path, client: Callable[..., Any]) -> Records:
    client("s3").create_bucket(Bucket=BUCKET)
    return Records(cloud, config.load())


def test_an_object_is_written_once(records: Records, cloud: Cloud) -> None:
    with cloud.permit(records.writing):
        assert records.put_once("kiln/a.json", b"one") is True
        assert records.put_once("kiln/a.json", b"one") is False
        with pytest.raises(KilnError, match="is there already and says something else") as caught:
            records.put_once("kiln/a.json", b"two")
    assert "\n" not in caught.value.what + caught.value.hint
    assert records.get("kiln/a.json") == b"one"
    assert records.get("kiln/b.json") is None
    assert (records.exists("kiln/a.json"), records.exists("kiln/b.json")) == (True, False)


def test_a_write_that_nobody_announced_is_not_sent(records: Records, emulator: Emulator) -> None:
    since = len(emulator.requests())
    with pytest.raises(UnannouncedError):
        records.put_once("kiln/a.json", b"one")
    assert emulator.mutating(since) == []


def test_a_change_names_what_was_read(records: Records, cloud: Cloud) -> None:
    with cloud.permit(records.locking):
        records.put_once("kiln/a.json", b"one")
        found = records.find("kiln/a.json")
        assert found is not None
        etag = records.replace("kiln/a.json", b"two", found.etag)
        with pytest.raises(ChangedError):
            records.replace("kiln/a.json", b"three", found.etag)
        assert records.get("kiln/a.json") == b"two"
        assert records.remove("kiln/a.json", found.etag) is False
        assert records.remove("kiln/a.json", etag) is True
        assert records.remove("kiln/a.json", etag) is False
        with pytest.raises(ChangedError):
            records.replace("kiln/a.json", b"four", etag)
    assert records.get("kiln/a.json") is None


@pytest.mark.parametrize("fault", ["throttle", "5xx", "reset", "lost"])
def test_faults_are_survived(records: Records, cloud: Cloud, emulator: Emulator, fault: str) -> None:
    def next_two(operation: str) -> None:
        emulator.faults([{"service": "s3", "operation": operation, "fault": fault, "times": 2}])

    with cloud.permit(records.locking):
        next_two("PutObject")
        records.put_once("kiln/a.json", b"one")
        found = records.find("kiln/a.json")
        assert found is not None and found.body == b"one"
        next_two("PutObject")
        etag = records.replace("kiln/a.json", b"two", found.etag)
        next_two("GetObject")
        assert records.get("kiln/a.json") == b"two"
        next_two("DeleteObject")
        records.remove("kiln/a.json", etag)
    assert records.get("kiln/a.json") is None


def test_keys_and_folders(records: Records, cloud: Cloud) -> None:
    assert records.versions("monai-label") == []
    names = ["20260102T030405Z-01234567", "20250102T030405Z-01234567"]
    with cloud.permit(records.writing):
        for name in names:
            records.put_once(records.version_key("monai-label", name, "manifest.json"), b"{}")
            records.put_once(records.published_key("monai-label", name, "1", "eu-west-1"), b"{}")
        records.put_once(records.version_key("monai-label-2", names[0], "manifest.json"), b"{}")
    assert records.versions("monai-label") == sorted(names)
    assert records.keys(records.version_key("monai-label", names[0])) == [
        f"kiln/images/monai-label/{names[0]}/manifest.json",
        f"kiln/images/monai-label/{names[0]}/published/1-eu-west-1.json",
    ]


def test_what_is_no_record_is_told_in_two_lines(records: Records, cloud: Cloud) -> None:
    key = records.version_key("monai-label", "v", "revoked.json")
    with cloud.permit(records.writing):
        records.put_once(key, b'{"image": 3}')
    with pytest.raises(KilnError) as caught:
        records.revocation("monai-label", "v")
    assert "image: Input should be a valid string" in caught.value.what
    assert "\n" not in caught.value.what + caught.value.hint


def test_a_model_comes_back_as_it_went(records: Records, cloud: Cloud) -> None:
    revoked = Revocation(image="monai-label", version="v", who="me", when=now(), why="a hole")
    with cloud.permit(records.writing):
        records.put_once(records.version_key("monai-label", "v", "revoked.json"), written(revoked))
    assert records.revocation("monai-label", "v") == revoked
    assert records.revocation("monai-label", "w") is None


def test_no_bucket(cloud: Cloud, kiln_toml: Path, emulator: Emulator) -> None:
    records = Records(cloud, config.load())
    with pytest.raises(KilnError, match="NoSuchBucket") as caught:
        records.get("kiln/a.json")
    assert "make the bucket that kiln.toml names" in caught.value.hint
    kiln_toml.write_text(kiln_toml.read_text().replace(f'bucket = "{BUCKET}"', ""))
    with pytest.raises(UsageError, match="names no bucket"):
        Records(cloud, config.load())
