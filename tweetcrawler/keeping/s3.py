"""A bucket of S3 as a place; the only module that knows boto3.

One conditional PUT for each object: a killed one leaves nothing, whereas parts of a multipart
upload stay and are billed. Keys come from the default chain of AWS or from the environment,
and no sentence repeats what boto3 says, for it may hold them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)

from tweetcrawler.keeping.places import (
    NameTaken,
    NothingThere,
    PlaceError,
    PlaceRefused,
    S3Options,
    Stored,
)

# Five attempts in all. A slow line does not fail: the timeout is for one read, not for all.
# The checksums that botocore adds by default come as a trailer that many servers other than
# AWS refuse; ours is in a header, and what is stored is read back anyway.
_CONFIG = Config(
    connect_timeout=5,
    retries={"total_max_attempts": 5, "mode": "standard"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    user_agent_extra="tweetcrawler",
)
_WRONG_KEYS = "its keys are refused: check them with `aws sts get-caller-identity`"
# The codes of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html that time
# does not heal.
_REFUSALS = {
    "InvalidAccessKeyId": _WRONG_KEYS,
    "SignatureDoesNotMatch": _WRONG_KEYS,
    "InvalidToken": _WRONG_KEYS,
    "ExpiredToken": "its session has expired: log in again",
    "AccessDenied": "these keys may not do this, or an object lock forbids it: allow it",
    "403": "these keys may not do this: allow it",
    "NoSuchBucket": "there is no such bucket: make it, or correct archivePlace",
    "InvalidBucketName": "this is no name of a bucket: correct archivePlace",
    "PermanentRedirect": "it is in another region: set s3Region",
    "AuthorizationHeaderMalformed": "it is in another region: set s3Region",
    "RequestTimeTooSkewed": "this machine's clock is wrong by minutes: set it by NTP",
}
_ABSENT = ("NoSuchKey", "404")
# 412: there is an object. 409: another upload to the name is under way, and ours may be tried
# again: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
_TAKEN = ("PreconditionFailed", "412")


class S3Place:
    """Objects under a prefix of a bucket."""

    def __init__(self, bucket: str, prefix: str, options: S3Options) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = options
        self._made: Any = None

    @property
    def url(self) -> str:
        """The address of the bucket and prefix."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, name: str, path: Path, sha256: str) -> None:
        """See `Place`."""
        with path.open("rb") as file, self._sentences(name):
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + name,
                Body=file,
                ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
                IfNoneMatch="*",
            )

    @contextmanager
    def read(self, name: str) -> Iterator[BinaryIO]:
        """See `Place`."""
        with self._sentences(name):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            # Not `with answer["Body"]`: that gives urllib3's stream, which takes a broken answer
            # for the end.
            with closing(answer["Body"]) as body:
                yield body

    def names(self) -> Iterator[Stored]:
        """See `Place`."""
        with self._sentences("its list"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for one in page.get("Contents", ()):
                    yield Stored(one["Key"].removeprefix(self._prefix), one["Size"])

    def delete(self, name: str) -> None:
        """See `Place`."""
        with self._sentences(name):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    @property
    def _client(self) -> Any:
        """The client, made at its first use: a session reads files and may ask the network."""
        if self._made is None:
            given = self._options
            session = boto3.session.Session(
                aws_access_key_id=given.key or None,
                aws_secret_access_key=given.secret or None,
                profile_name=given.profile or None,
                region_name=given.region or None,
            )
            # A server of one's own seldom answers to bucket.host.
            style = {"addressing_style": "path" if given.endpoint else "auto"}
            own = Config(read_timeout=given.silence_s, s3=style)
            self._made = session.client(
                "s3", endpoint_url=given.endpoint or None, config=_CONFIG.merge(own)
            )
        return self._made

    @contextmanager
    def _sentences(self, name: str) -> Iterator[None]:
        where = f"{self.url}, asked for {name},"
        try:
            yield
        except ClientError as error:
            raise self._fault_of(str(error.response["Error"].get("Code", "")), name) from None
        except (NoCredentialsError, PartialCredentialsError, ProfileNotFound):
            raise PlaceRefused(
                f"no keys for {self.url}: run `aws configure`, or set TWEETCRAWLER_S3KEY and "
                f"TWEETCRAWLER_S3SECRET"
            ) from None
        except (NoRegionError, ParamValidationError, ConfigParseError, ValueError) as error:
            raise PlaceRefused(
                f"{where} cannot be used ({type(error).__name__}): correct archivePlace, "
                f"s3Endpoint and s3Region"
            ) from None
        except BotoCoreError as error:
            kind = type(error).__name__
            raise PlaceError(f"{where} does not answer ({kind}); run again later") from None

    def _fault_of(self, code: str, name: str) -> Exception:
        if code in _TAKEN:
            return NameTaken(f"{self.url} has another object {name}: look at both")
        if code in _ABSENT:
            return NothingThere(f"{self.url} has no object {name}: look for it elsewhere")
        if code in _REFUSALS:
            return PlaceRefused(f"{self.url} refuses {name}: {_REFUSALS[code]}")
        return PlaceError(f"{self.url} fails at {name} with {code}; run again later")
