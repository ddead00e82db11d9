"""A bucket that speaks S3, through boto3: the one module that imports it. Credentials are boto3's business alone."""

import os
from typing import Any

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 60
ATTEMPTS = 5
"""For each request; with the pauses between them a server that is down is given up after about half a minute."""
PART_BYTES = 16 << 20
"""Files of this size and more are moved in parts; boto3 makes the parts larger if there would be too many."""
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
_NO_CREDENTIALS = (
    "boto3 finds no credentials on this node: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
    "or give the node a role"
)


class S3Error(Exception):
    """What a bucket answered, in words. `is_final` if no other file would fare better there."""

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final


class Bucket:
    """A bucket, with a client for it."""

    def __init__(
        self, name: str, *, endpoint_url: str = "", region: str = "", addressing_style: str | None = None
    ) -> None:
        """Empty arguments are boto3's to decide. Raises: S3Error."""
        try:
            import boto3
            from boto3.s3.transfer import TransferConfig
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            text = "the package boto3 is missing on this node: pip install 'sflow-ctl[s3]'"
            raise S3Error(text, is_final=True) from error
        self.name, self._endpoint_url = name, endpoint_url
        self._client_error = ClientError
        self._secrets: tuple[str, ...] = ()
        self.transfer_config = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )
        try:
            session = boto3.Session(region_name=region or None)
            credentials = session.get_credentials()
            if credentials is None:
                raise S3Error(_NO_CREDENTIALS, is_final=True)
            frozen = credentials.get_frozen_credentials()
            self._secrets = tuple(one for one in (frozen.secret_key, frozen.token) if one)
            default = {} if session.region_name or not self._has_endpoint else {"region_name": "us-east-1"}
            self._client: Any = session.client(
                "s3", endpoint_url=endpoint_url or None, config=self._config(addressing_style), **default
            )
        except (BotoCoreError, ValueError) as error:
            raise S3Error(self._masked(str(error)), is_final=True) from error

    def ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of boto3's client. Raises: S3Error, OSError."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, method)(*arguments, **named)
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> S3Error:
        """Return what an exception of boto3 means, without credentials."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import HTTPClientError, NoCredentialsError

        if isinstance(error, NoCredentialsError):
            return S3Error(_NO_CREDENTIALS, is_final=True)
        if isinstance(error, Boto3Error) and error.__context__ is not None:
            return self._explained(error.__context__)  # it quotes the answer of the server
        if isinstance(error, self._client_error):
            answer = error.response.get("Error", {})
            code = str(answer.get("Code", ""))
            words = _FINAL.get(code) or self._masked(str(answer.get("Message") or error))
            subject = f"bucket {self.name}" + (f" at {self._endpoint_url}" if self._endpoint_url else "")
            return S3Error(f"{subject}: {words} ({code})", is_final=code in _FINAL)
        is_final = isinstance(error, HTTPClientError)  # no connection, or none that lasts, after all attempts
        return S3Error(self._masked(str(error)), is_final=is_final)

    @property
    def _has_endpoint(self) -> bool:
        return bool(self._endpoint_url) or any(name in os.environ for name in _ENDPOINTS)

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _config(self, addressing_style: str | None) -> Any:
        """Return limits of time, retries and the form of addresses."""
        from botocore.config import Config

        style = addressing_style or ("path" if self._has_endpoint else "auto")
        more: dict[str, Any] = {}
        if self._has_endpoint and not any(name in os.environ for name in _CHECKSUMS):
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


_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Variables by which boto3 finds another service than Amazon's. Source: boto3, "Configuration"."""
