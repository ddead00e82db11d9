"""How engines get the image of a `docker://` artifact."""

import pytest

from protocol.messages.rank_spec import Container, EngineChoice
from sflow_agent.processes.engines import Inside, engine_command

INSIDE = Inside(
    argv=("true",),
    name="c",
    run_id="r",
    marker="r-m",
    variables={},
    always=(),
    gpus=(),
    count=0,
    home=None,
    user=(1, 1),
    scratch="/tmp",
)


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ("docker", "host/a:1"),
        ("podman", "host/a:1"),
        ("apptainer", "docker://host/a:1"),
        ("enroot", "docker://host/a:1"),
    ],
)
def test_every_engine_gets_its_own_spelling(engine: EngineChoice, told: str) -> None:
    made = engine_command(engine, Container(engine=engine, image="docker://host/a:1"), INSIDE)
    assert told in made.argv
