"""AWS's errors as two lines: what happened, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from kiln.errors import AGAIN as AGAIN
from kiln.errors import KilnError

HINTS: dict[str, str] = {
    "ExpiredToken": "the credentials have expired: sign in again, then run the same command again",
    "ExpiredTokenException": "the credentials have expired: sign in again, then run the same command again",
    "RequestExpired": "the credentials have expired or this machine's clock is wrong: check both",
    "InvalidClientTokenId": "AWS knows no such key: check AWS_ACCESS_KEY_ID or the profile",
    "UnrecognizedClientException": "AWS knows no such key: check AWS_ACCESS_KEY_ID or the profile",
    "AuthFailure": "AWS does not accept the credentials there: check them, and that the region is enabled",
    "SignatureDoesNotMatch": "the secret key does not fit the key id: check AWS_SECRET_ACCESS_KEY",
    "OptInRequired": "enable the region for this account (Account, AWS Regions), or take it out of kiln.toml",
    "UnauthorizedOperation": "let the operator's role do it: launch/policies/ has what kiln needs",
    "AccessDenied": "let the operator's role do it: launch/policies/ has what kiln needs",
    "AccessDeniedException": "let the operator's role do it: launch/policies/ has what kiln needs",
    "RequestLimitExceeded": f"AWS throttles this account; wait a minute and {AGAIN}",
    "Throttling": f"AWS throttles this account; wait a minute and {AGAIN}",
    "ThrottlingException": f"AWS throttles this account; wait a minute and {AGAIN}",
    "NoSuchBucket": "make the bucket that kiln.toml names under [project], in the account of the credentials",
}
"""What to do about an error, by its code; a command that knows more says more."""


def code(error: BaseException) -> str:
    """Return AWS's code of an error, or an empty text where AWS did not answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


@contextmanager
def told(doing: str, hints: dict[str, str] | None = None) -> Iterator[None]:
    """Turn what AWS or the way to it answers into a :class:`KilnError`.

    Parameters
    ----------
    doing:
        What was being done, as in ``sharing ami-1 with 1234``.
    hints:
        More of :data:`HINTS`, which go before them.

    Raises
    ------
    KilnError
        In place of an error of botocore.
    """
    try:
        yield
    except ClientError as error:
        name = code(error)
        message = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
        hint = {**HINTS, **(hints or {})}.get(name, AGAIN)
        raise KilnError(f"{doing}: {name}: {message}", hint) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise KilnError(
            f"{doing}: there are no credentials for AWS",
            "sign in (aws sso login, aws configure), or set AWS_PROFILE or AWS_ACCESS_KEY_ID",
        ) from error
    except ProfileNotFound as error:
        raise KilnError(
            f"{doing}: {error}", "name a profile of ~/.aws/config, or unset AWS_PROFILE"
        ) from error
    except (BotoConnectionError, HTTPClientError) as error:
        raise KilnError(
            f"{doing}: AWS was not reached: {' '.join(str(error).split())}",
            f"check the network and that the region exists, then {AGAIN}",
        ) from error
    except BotoCoreError as error:
        raise KilnError(f"{doing}: {' '.join(str(error).split())}", AGAIN) from error
