"""Where containers of a docker backend run. A part of `PlannedNode`."""

import msgspec


class EngineHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host of a docker backend, by the address or the context that the engine's client on this machine calls it."""

    docker_host: str | None = None
    context: str | None = None
    mounts: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    simulates_gpus: bool = False
