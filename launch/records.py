"""The records in S3: contract files, history of channels and rollouts, locks. No write is a blind one.

Every write is conditional: a new object with If-None-Match, a change with If-Match. So of two writers one
wins and the other is told, and a request that was sent twice because its answer was lost is found to have
acted: what it wrote is there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from botocore.exceptions import ClientError
from pydantic import BaseModel, Field, ValidationError

from kiln.config import Config
from kiln.errors import KilnError
from kiln.manifest import Built, Proof, Strict, model_of
from launch.cloud import Cloud
from launch.plan import Request, requests
from launch.trouble import AGAIN, code, told

MANIFEST = "manifest.json"
PROOF = "proof.json"
SBOM = "sbom.cdx.json"
REVOKED = "revoked.json"

TIME = "%Y%m%dT%H%M%SZ"
"""A time in a key: keys of one folder sort by it."""

_TRIES = 5
"""S3 answers two writers at the same instant with a conflict that says: try again."""

_ABSENT = ("NoSuchKey", "404", "NotFound")

_Model = TypeVar("_Model", bound=BaseModel)


class ChangedError(KilnError):
    """The object is not the one that was read: somebody else wrote it, or removed it."""


@dataclass(frozen=True)
class Found:
    """An object as it was read.

    Parameters
    ----------
    key:
        Its key.
    body:
        What is in it.
    etag:
        What a change of it names; see :meth:`Records.replace`.
    at:
        S3's clock when it answered, to the second.
    """

    key: str
    body: bytes
    etag: str
    at: datetime


def stamp(time: datetime) -> str:
    """Write a time as it stands in a key, UTC, to the second."""
    return time.astimezone(UTC).strftime(TIME)


def now() -> datetime:
    """Return the time, UTC, to the second: more does not stand in a key."""
    return datetime.now(UTC).replace(microsecond=0)


def written(data: BaseModel | dict[str, Any]) -> bytes:
    """Return the bytes of a record: JSON that reads well, the same for the same data.

    Parameters
    ----------
    data:
        A model, or a mapping that JSON can hold.
    """
    plain = data.model_dump(mode="json", by_alias=True) if isinstance(data, BaseModel) else data
    return (json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


class Revocation(Strict):
    """``revoked.json``: a version that nobody should run, for good."""

    image: str = Field(description="name of the image in kiln.toml")
    version: str = Field(description="its version")
    who: str = Field(description="ARN of the operator")
    when: datetime = Field(description="UTC")
    why: str = Field(description="the reason, a line")


class Records:
    """The bucket that kiln.toml names, under the project's name.

    Parameters
    ----------
    cloud:
        The account; the requests go to its own region, and S3 redirects from there.
    config:
        kiln.toml.

    Raises
    ------
    UsageError
        kiln.toml names no bucket.
    """

    def __init__(self, cloud: Cloud, config: Config) -> None:
        self.bucket = config.records()
        self.project = config.project.name
        self._cloud = cloud
        self._region = cloud.region

    @property
    def writing(self) -> tuple[Request, ...]:
        """What a step announces that writes a record."""
        return requests("s3", self._region, "PutObject")

    @property
    def locking(self) -> tuple[Request, ...]:
        """What a step announces that takes, renews and releases a lock."""
        return requests("s3", self._region, "PutObject", "DeleteObject")

    @property
    def _s3(self) -> Any:
        return self._cloud.client("s3", self._region)

    # ---- keys

    def key(self, *parts: str) -> str:
        """Return the key of a record, under the project's name."""
        return "/".join((self.project, *parts))

    def version_key(self, image: str, version: str, *name: str) -> str:
        """Return the key of a file of a version, or of its folder without a name."""
        return self.key("images", image, version, *name)

    def published_key(self, image: str, version: str, account: str, region: str) -> str:
        """Return the key of what was published of a version in one account and region."""
        return self.version_key(image, version, "published", f"{account}-{region}.json")

    def url(self, key: str) -> str:
        """Return the address of a record, for messages."""
        return f"s3://{self.bucket}/{key}"

    # ---- any object

    def find(self, key: str) -> Found | None:
        """Read an object.

        Parameters
        ----------
        key:
            Its whole key.

        Returns
        -------
        Found or None
            None where there is none.

        Raises
        ------
        KilnError
            It could not be found out.
        """
        with told(f"reading {self.url(key)}"):
            try:
                answer = self._s3.get_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if code(error) in _ABSENT:
                    return None
                raise
            body: bytes = answer["Body"].read()
        return Found(key, body, answer["ETag"], _clock(answer))

    def get(self, key: str) -> bytes | None:
        """Return what is in an object, None where there is none; see :meth:`find`."""
        found = self.find(key)
        return None if found is None else found.body

    def exists(self, key: str) -> bool:
        """Tell whether there is an object, without reading it."""
        with told(f"looking for {self.url(key)}"):
            try:
                self._s3.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if code(error) in _ABSENT:
                    return False
                raise
        return True

    def keys(self, prefix: str) -> list[str]:
        """List keys.

        Parameters
        ----------
        prefix:
            Start of the whole key.

        Returns
        -------
        list of str
            Whole keys, sorted.
        """
        with told(f"listing {self.url(prefix)}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return sorted(each["Key"] for page in pages for each in page.get("Contents", []))

    def folders(self, prefix: str) -> list[str]:
        """List the names between a prefix and the next slash, sorted.

        Parameters
        ----------
        prefix:
            Start of the key, with its slash at the end.
        """
        with told(f"listing {self.url(prefix)}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, Delimiter="/"
            )
            found = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]
        return sorted(each.removeprefix(prefix).rstrip("/") for each in found)

    def put_once(self, key: str, body: bytes) -> bool:
        """Write an object that never changes.

        Parameters
        ----------
        key:
            Its whole key.
        body:
            What goes in.

        Returns
        -------
        bool
            False where it was there already, with the same content.

        Raises
        ------
        KilnError
            Something else stands there, or S3 did not take it.
        """
        with told(f"writing {self.url(key)}"):
            for _ in range(_TRIES):
                if self._put(key, body, IfNoneMatch="*") is not None:
                    return True
                there = self.get(key)
                if there == body:
                    return False
                if there is not None:
                    raise KilnError(
                        f"{self.url(key)} is there already and says something else",
                        "records are never changed: compare the two, and remove the wrong one by hand",
                    )
                self._cloud.wait(1)
        raise KilnError(f"{self.url(key)}: others write it at the same time", AGAIN)

    def replace(self, key: str, body: bytes, etag: str) -> str:
        """Change an object, if it is still the one that was read.

        Parameters
        ----------
        key:
            Its whole key.
        body:
            What goes in; it must differ from what another writer could put there.
        etag:
            Of the object that was read.

        Returns
        -------
        str
            The new ETag.

        Raises
        ------
        ChangedError
            It is another one by now, or gone.
        """
        with told(f"changing {self.url(key)}"):
            for _ in range(_TRIES):
                new = self._put(key, body, IfMatch=etag)
                if new is not None:
                    return new
                found = self.find(key)
                if found is not None and found.body == body:
                    # The request had acted, its answer was lost, and it was sent again.
                    return found.etag
                if found is None or found.etag != etag:
                    raise ChangedError(f"{self.url(key)} was changed by another run", AGAIN)
                self._cloud.wait(1)
        raise KilnError(f"{self.url(key)}: others write it at the same time", AGAIN)

    def remove(self, key: str, etag: str) -> bool:
        """Remove an object, if it is still the one that was read. Only locks are ever removed.

        Parameters
        ----------
        key:
            Its whole key.
        etag:
            Of the object that was read.

        Returns
        -------
        bool
            False where it was gone, or is another one by now and stays.
        """
        with told(f"removing {self.url(key)}"):
            # S3 compares the ETag itself. That we look before is for stores that do not.
            found = self.find(key)
            if found is None or found.etag != etag:
                return False
            try:
                self._s3.delete_object(Bucket=self.bucket, Key=key, IfMatch=etag)
            except ClientError as error:
                if code(error) in (*_ABSENT, "PreconditionFailed", "412"):
                    return False
                raise
        return True

    def clock(self) -> datetime:
        """Ask S3 what time it is: the clocks of two operators differ."""
        with told(f"asking for {self.url('')}"):
            return _clock(self._s3.head_bucket(Bucket=self.bucket))

    def _put(self, key: str, body: bytes, **condition: str) -> str | None:
        """Write under a condition; None where it does not hold, or another writer was at it."""
        try:
            answer = self._s3.put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType="application/json", **condition
            )
        except ClientError as error:
            if code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409", *_ABSENT):
                return None
            raise
        return str(answer["ETag"])

    # ---- what the contract has

    def read(self, key: str, model: type[_Model]) -> _Model | None:
        """Read a record as what it must be.

        Parameters
        ----------
        key:
            Its whole key.
        model:
            Its model.

        Returns
        -------
        model or None
            None where there is no such record.

        Raises
        ------
        KilnError
            It is there and is not what it must be.
        """
        body = self.get(key)
        return None if body is None else self.parsed(key, body, model)

    def parsed(self, key: str, body: bytes, model: type[_Model]) -> _Model:
        """Judge the bytes of a record; parameters and errors as of :meth:`read`."""
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the document"
            raise KilnError(
                f"{self.url(key)} cannot be read: {where}: {first['msg']}",
                "records are never changed by hand: restore its earlier version (the bucket has versioning)",
            ) from error

    def versions(self, image: str) -> list[str]:
        """List the versions of an image that have records, oldest first."""
        return self.folders(self.key("images", image) + "/")

    def manifest(self, image: str, version: str) -> Built | None:
        """Return the manifest of a published version, however that was made."""
        key = self.version_key(image, version, MANIFEST)
        body = self.get(key)
        return None if body is None else self.parsed(key, body, model_of(body))

    def manifest_digest(self, image: str, version: str) -> str | None:
        """Return the sha256 of the bytes of a manifest, which proofs and tags name."""
        body = self.get(self.version_key(image, version, MANIFEST))
        return None if body is None else hashlib.sha256(body).hexdigest()

    def proof(self, image: str, version: str) -> Proof | None:
        """Return the proof of a published version."""
        return self.read(self.version_key(image, version, PROOF), Proof)

    def has_sbom(self, image: str, version: str) -> bool:
        """Tell whether a version has a list of its components."""
        return self.exists(self.version_key(image, version, SBOM))

    def revocation(self, image: str, version: str) -> Revocation | None:
        """Return why a version was revoked, None where it was not."""
        return self.read(self.version_key(image, version, REVOKED), Revocation)


def _clock(answer: dict[str, Any]) -> datetime:
    """S3's own time in an answer; a store that says none has ours."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(date).astimezone(UTC) if date else now()
