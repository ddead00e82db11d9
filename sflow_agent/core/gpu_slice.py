"""From a task's slice of GPU indices to what its process must see in `CUDA_VISIBLE_DEVICES`."""


def visible_devices(slice_indices: str, inherited: str | None) -> str:
    """The slice in terms of the devices this agent itself was given.

    The controller counts GPUs within the agent's view. CUDA does not nest the variable: where the agent
    inherited "2,3", slice "0" is device "2"; UUIDs and MIG names pass through the same way. Without an
    inherited list, or for an index it does not have, the slice stands as it is.
    """
    if not inherited:
        return slice_indices
    entries = [entry.strip() for entry in inherited.split(",")]
    wanted = slice_indices.split(",")
    if not all(index.isdecimal() and int(index) < len(entries) for index in wanted):
        return slice_indices
    return ",".join(entries[int(index)] for index in wanted)
