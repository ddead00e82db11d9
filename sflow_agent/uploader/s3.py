"""A target that speaks S3, through boto3: the one module that imports it. Credentials are boto3's business alone."""

import os
from typing import Any

from protocol.messages.uploads import StorageTarget
from sflow_agent.uploader.stores import Sent, StoreError

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 60
ATTEMPTS = 5
"""For each request; with the pauses between them a server that is down is given up after about half a minute."""
PART_BYTES = 16 << 20
"""Files of this size and more are sent in parts; boto3 makes the parts larger if there would be too many."""
PARTS_AT_ONCE = 4
_FINAL = {
    "NoSuchBucket": "the bucket does not exist",
    "InvalidAccessKeyId": "the server does not know this access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is not valid",
    "AllAccessDisabled": "the account is closed",
}
"""Answers that every further file would get as well, in words. Source: Amazon S3, "Error responses"."""
_CHECKSUMS = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")


class S3Store:
    """A bucket."""

    def __init__(self, target: StorageTarget) -> None:
        """Raises: StoreError."""
        try:
            import boto3
            from boto3.s3.transfer import TransferConfig
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            text = "the package boto3 is missing on this node: pip install 'sflow-ctl[s3]'"
            raise StoreError(text, is_final=True) from error
        self._target = target
        self._client_error = ClientError
        self._secrets: tuple[str, ...] = ()
        self._transfer = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )
        self._extra = {"StorageClass": target.storage_class} if target.storage_class else {}
        try:
            session = boto3.Session(region_name=target.region or None)
            credentials = session.get_credentials()
            if credentials is None:
                raise StoreError(_NO_CREDENTIALS, is_final=True)
            frozen = credentials.get_frozen_credentials()
            self._secrets = tuple(one for one in (frozen.secret_key, frozen.token) if one)
            region = {} if session.region_name or not target.endpoint_url else {"region_name": "us-east-1"}
            self._client: Any = session.client(
                "s3", endpoint_url=target.endpoint_url or None, config=_config(target), **region
            )
        except (BotoCoreError, ValueError) as error:
            raise StoreError(self._masked(str(error)), is_final=True) from error

    def put(self, path: str, key: str, sent: Sent) -> None:
        """Upload a file, in parts if it is large. Raises: StoreError."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, NoCredentialsError

        try:
            self._client.upload_file(
                path, self._target.bucket, key, ExtraArgs=self._extra, Callback=sent, Config=self._transfer
            )
        except Boto3Error as error:  # it quotes the answer of the server
            raise self._explained(error.__context__ or error) from error
        except NoCredentialsError as error:
            raise StoreError(_NO_CREDENTIALS, is_final=True) from error
        except (BotoCoreError, self._client_error) as error:
            raise self._explained(error) from error
        except OSError as error:
            raise StoreError(f"{error.filename or path}: {error.strerror or error}") from error

    def _explained(self, error: BaseException) -> StoreError:
        from botocore.exceptions import HTTPClientError

        if isinstance(error, self._client_error):
            answer = error.response.get("Error", {})
            code = str(answer.get("Code", ""))
            words = _FINAL.get(code) or self._masked(str(answer.get("Message") or error))
            subject = f"bucket {self._target.bucket}" + (
                f" at {self._target.endpoint_url}" if self._target.endpoint_url else ""
            )
            return StoreError(f"{subject}: {words} ({code})", is_final=code in _FINAL)
        is_final = isinstance(error, HTTPClientError)  # no connection, or none that lasts, after all attempts
        return StoreError(self._masked(str(error)), is_final=is_final)

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


_NO_CREDENTIALS = (
    "boto3 finds no credentials on this node: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
    "or give the node a role"
)


def _config(target: StorageTarget) -> Any:
    """Return limits of time, retries and the form of addresses."""
    from botocore.config import Config

    style = target.addressing_style or ("path" if target.endpoint_url else "auto")
    more: dict[str, Any] = {}
    if target.endpoint_url and not any(name in os.environ for name in _CHECKSUMS):
        # Since 1.36 boto3 adds checksums that many other servers refuse.
        more = {
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        s3={"addressing_style": style},
        user_agent_extra="sflow-ctl",
        **more,
    )
