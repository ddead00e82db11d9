"""A target that speaks S3."""

from protocol.machine.s3 import Bucket, S3Error
from protocol.messages.uploads import StorageTarget
from sflow_agent.uploader.stores import Sent, StoreError


class S3Store:
    """A bucket."""

    def __init__(self, target: StorageTarget) -> None:
        """Raises: StoreError."""
        try:
            self._bucket = Bucket(
                target.bucket,
                endpoint_url=target.endpoint_url,
                region=target.region,
                addressing_style=target.addressing_style,
            )
        except S3Error as error:
            raise StoreError(str(error), is_final=error.is_final) from error
        self._extra = {"StorageClass": target.storage_class} if target.storage_class else {}

    def put(self, path: str, key: str, sent: Sent) -> None:
        """Upload a file, in parts if it is large. Raises: StoreError."""
        try:
            self._bucket.ask(
                "upload_file",
                path,
                self._bucket.name,
                key,
                ExtraArgs=self._extra,
                Callback=sent,
                Config=self._bucket.transfer_config,
            )
        except S3Error as error:
            raise StoreError(str(error), is_final=error.is_final) from error
        except OSError as error:
            raise StoreError(f"{error.filename or path}: {error.strerror or error}") from error
