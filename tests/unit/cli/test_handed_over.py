"""What a controller hands to the next one, as bytes."""

from pathlib import Path

import msgspec
import pytest

from sflow_ctl.runtime.files.settings_files import RunSettings, TelemetrySettings
from sflow_ctl.runtime.supervision import succession
from sflow_ctl.runtime.supervision.succession import Succession

SETTINGS = RunSettings(
    output_dir=Path("/out"),
    log_spool=None,
    interface=None,
    python=None,
    launch_flags=(),
    join_within_s=1.0,
    headroom_s=2.0,
    lost_after_s=3.0,
    orphan_grace_s=None,
)


def test_r13_a_succession_can_be_read() -> None:
    """Its types are many, and a union that cannot be decoded is found only when a controller is killed."""
    with pytest.raises(msgspec.ValidationError, match="missing required field `run_directory`"):
        msgspec.msgpack.decode(msgspec.msgpack.encode({}), type=Succession, dec_hook=succession._decoded)


@pytest.mark.parametrize("target", ["/metrics", 9000, None])
def test_settings_are_handed_over(target: str | int | None) -> None:
    given = msgspec.structs.replace(SETTINGS, telemetry=TelemetrySettings(openmetrics=target))
    encoded = msgspec.msgpack.Encoder(enc_hook=str).encode(given)
    assert msgspec.msgpack.decode(encoded, type=RunSettings, dec_hook=succession._decoded) == given
