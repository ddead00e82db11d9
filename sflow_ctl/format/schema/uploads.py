"""Where results are copied to: storage targets, and what tasks and workflows upload there."""

from typing import Literal

import msgspec

from sflow_ctl.format.schema.values import Flag, Part


class Storage(Part, frozen=True, kw_only=True):
    """A place outside the run directory that files are uploaded to."""

    name: str
    """Name that `uploads` and `upload_all` use in `target:`."""
    type: Literal["s3", "directory", "plugin"]
    """`s3`: a bucket of a service that speaks Amazon's S3. `directory`: a directory of the nodes, for example of a shared
    file system. `plugin`: what a plug-in of an installed package stores under `uri`."""
    uri: str | None = None
    """URI of the place, for example `vault://team/results`; its scheme names the plug-in, and keys are added after `/`. Required
    with `plugin`, which has none of the fields for buckets but `prefix`."""
    bucket: str | None = None
    """Name of the bucket. Required with `s3`."""
    path: str | None = None
    """The directory; a relative one is in the workspace. Required with `directory`, which has none of the fields for buckets."""
    prefix: str = ""
    """Folder of all keys, for example `runs/`."""
    region: str | None = None
    """Region of the bucket. Default: from boto3's configuration."""
    endpoint_url: str | None = None
    """URL of another service than Amazon's, for example `http://minio:9000`."""
    storage_class: str | None = None
    """Storage class of uploaded objects, for example `STANDARD_IA`. Default: the bucket's."""
    addressing_style: Literal["auto", "virtual", "path"] | None = None
    """`virtual`: the bucket is part of the host's name; `path`: part of the path. Default: `path` with an `endpoint_url`, else
    `auto`."""


class Upload(Part, frozen=True, kw_only=True):
    """Files of a completed task that are copied to a storage target."""

    target: str
    """Name of an entry of `storage:`."""
    source: str = msgspec.field(name="from")
    """File or pattern (`*.json`, `**/*.csv`), relative to the task's directory."""
    to: str | None = None
    """Key below the target's prefix; with `/` at its end the file's name is added. Default: the file's name."""
    on_error: Literal["warn", "fail"] = "warn"
    """`warn`: the task has completed even if the upload fails; `fail`: the task then fails."""


class UploadAll(Part, frozen=True, kw_only=True):
    """The run directory as one zip file, copied to a storage target at the end of the run."""

    target: str
    """Name of an entry of `storage:`."""
    to: str | None = None
    """Key below the target's prefix. Default: the run's id with `.zip`."""
    on_error: Literal["warn", "fail"] = "warn"
    """`fail`: a failed upload makes the run fail."""


class ResultPattern(Part, frozen=True, kw_only=True):
    """A value of the result: a pattern for the lines of the task's log."""

    name: str
    """Name of the value."""
    regex: str
    """Python regular expression, searched in each line; its group `value`, its first group, or all of the match counts."""
    type: Literal["auto", "string", "int", "float", "bool", "json"] = "auto"
    """Type to convert matches to. `auto`: numbers, `true` and `false`, and JSON in brackets are values, all else is text."""
    aggregate: str = "last"
    """How several matches become one value: `first`, `last`, `list`, `count`, `min`, `max`, `avg` or `mean`, `sum`, `median`,
    `std`, or a percentile such as `p99`."""
    group: str | int | None = None
    """Group of the pattern, by name or number."""
    unit: str | None = None
    """Unit of the value, for readers of the result."""
    required: Flag = False
    """Report a result without this value as incomplete (`ok: false`)."""
    source: Literal["log"] | None = None
    """Where the pattern is searched. Default: the `source` of the result."""


class Result(Part, frozen=True, kw_only=True):
    """Values of a completed task for `result.json`: from its log by patterns, or from a JSON file."""

    patterns: list[ResultPattern] | None = None
    """Patterns for lines of the log."""
    file: str | None = None
    """JSON file in the task's directory, for example `metrics.json`."""
    source: Literal["log"] = "log"
    """Where the patterns are searched."""


STORAGE_NEEDS = {"s3": "bucket", "directory": "path", "plugin": "uri"}
"""The field that a storage target of each type must have."""
