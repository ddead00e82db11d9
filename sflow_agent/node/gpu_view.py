"""Determines which GPUs an agent may use, and the names of a task's slice of them. Pure.

Applies the rules of the variables that hide GPUs. The controller counts GPUs from 0 within an agent's view.
Programs that read `CUDA_VISIBLE_DEVICES` do not nest it: where the agent inherited "2,3", slice 0 is device
2. The driver is asked in `node/nvml.py`.
"""

from collections.abc import Mapping, Sequence

import msgspec

from protocol.messages.node import Gpu
from protocol.text.counted import counted
from protocol.text.lazy_pattern import lazy_pattern

CUDA, CUDA_ORDER, PCI_ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PCI_BUS_ID"
NVIDIA = "NVIDIA_VISIBLE_DEVICES"
NICS = "SFLOW_TASK_NICS"
"""The network cards nearest to a task's GPUs."""
_HIP, _ROCR, _OPENCL = "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"
_NUMBER = lazy_pattern(r"\+?([0-9]+)")
_NAMES = ("GPU-", "MIG-")


class SliceError(Exception):
    """A task was given GPUs that the agent does not have; the text is for a person."""


class Device(msgspec.Struct, frozen=True):
    """A device of CUDA: a GPU, or one instance of a GPU that is partitioned (MIG)."""

    number: int
    """The GPU's number, in PCI order, among those that this process may use: CUDA counts no others."""
    gpu_uuid: str
    """"GPU-..."; for an instance that of its GPU. Empty if the GPU does not answer."""
    facts: Gpu | None
    """With its own UUID ("MIG-..." for an instance), and any index. None for a GPU that does not answer."""
    older_name: str = ""
    """An instance's "MIG-GPU-<uuid>/<GPU instance>/<compute instance>", before drivers R470."""

    @property
    def is_instance(self) -> bool:
        """Whether it is a part of a GPU: numbers do not distinguish those."""
        return bool(self.older_name)


class Answers(msgspec.Struct, frozen=True):
    """The answers of the driver."""

    devices: tuple[Device, ...]
    """In PCI order, instances in the place of their GPU."""
    problems: tuple[str, ...] = ()


class GpuView(msgspec.Struct, frozen=True):
    """The GPUs of one agent."""

    gpus: tuple[Gpu, ...] = ()
    cuda: tuple[str, ...] | None = None
    """Each GPU's entry in `CUDA_VISIBLE_DEVICES`. None when they are unknown: slices then stay unchanged."""
    engine: tuple[str, ...] = ()
    """Each GPU's name for container engines; empty when engines cannot be asked for GPUs."""
    variables: tuple[str, ...] = (CUDA,)
    """The variables that a slice is written into."""
    problems: tuple[str, ...] = ()
    """Sentences about GPUs that should exist and do not."""

    @property
    def is_counted(self) -> bool:
        """Whether the number of GPUs means anything."""
        return self.cuda is not None or bool(self.gpus)

    @property
    def is_simulated(self) -> bool:
        """Whether the GPUs are only counted."""
        return any(gpu.simulated for gpu in self.gpus)

    def environment(self, indices: Sequence[int], inherited: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of a task with these GPUs. Raises: SliceError.

        `CUDA_DEVICE_ORDER` comes with numbers: they count in PCI order, CUDA by itself puts the fastest GPU
        first. A value of the user's is kept.
        """
        if not indices or self.cuda is None:
            return {}
        cards = dict.fromkeys(
            card for index in indices if index < len(self.gpus) for card in self.gpus[index].cards
        )
        names = self._chosen(self.cuda, indices)
        made = dict.fromkeys(self.variables, ",".join(names))
        is_numbered = _HIP not in self.variables and any(_NUMBER.fullmatch(name) for name in names)
        if is_numbered and CUDA_ORDER not in inherited:
            made[CUDA_ORDER] = PCI_ORDER
        if cards:
            made[NICS] = ",".join(cards)
        return made

    def uuids(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Return the names of these GPUs; none unless all are known."""
        gpus = [self.gpus[index] for index in indices if index < len(self.gpus)]
        is_known = len(gpus) == len(indices) and all(gpu.uuid and not gpu.simulated for gpu in gpus)
        return tuple(gpu.uuid for gpu in gpus) if is_known else ()

    def engine_names(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Return the names to request from a container engine. Raises: SliceError."""
        return self._chosen(self.engine, indices) if self.engine else ()

    def _chosen(self, names: tuple[str, ...], indices: Sequence[int]) -> tuple[str, ...]:
        beyond = [index for index in indices if index >= len(names)]
        if beyond:
            has = counted(len(names), "GPU")
            why = f" ({'; '.join(self.problems)})" if self.problems else ""
            raise SliceError(
                f"it was given GPU {beyond[0]}, and this node has {has} for the run, counted from 0{why}: "
                "correct gpus_per_node"
            )
        return tuple(names[index] for index in indices)


def simulated_view(count: int) -> GpuView:
    """Return a view of GPUs that are only counted."""
    return GpuView(
        tuple(
            Gpu(index=index, uuid=f"GPU-simulated-{index}", name="simulated", simulated=True)
            for index in range(count)
        )
    )


def nvidia_view(answers: Answers, environ: Mapping[str, str]) -> GpuView:
    """Return the driver's devices, limited to those that this process was given.

    Names are numbers, since not every program accepts UUIDs, except for instances, and where numbers are in
    doubt: a GPU that does not answer may or may not be counted, and UUIDs that were given in an order of the
    user's own have no PCI number.
    """
    given = environ.get(CUDA)
    visible = select_visible(answers.devices, given)
    is_in_doubt = any(device.facts is None for device in answers.devices) or (
        environ.get(CUDA_ORDER, PCI_ORDER) != PCI_ORDER and given is not None and given.startswith(_NAMES)
    )
    found = [(device, device.facts) for device in visible if device.facts is not None]
    return GpuView(
        gpus=tuple(msgspec.structs.replace(facts, index=index) for index, (_, facts) in enumerate(found)),
        cuda=tuple(
            facts.uuid if device.is_instance or is_in_doubt else str(device.number) for device, facts in found
        ),
        # Engines run outside of a job's control group, where numbers are those of the machine.
        engine=tuple(facts.uuid for _, facts in found),
        problems=(*answers.problems, *_hidden(given, len(found))),
    )


def given_view(environ: Mapping[str, str], is_amd: bool, problems: tuple[str, ...] = ()) -> GpuView:
    """Return the GPUs that Slurm or the user has given, without asking a driver (another maker's, or none).

    HIP counts within `ROCR_VISIBLE_DEVICES`, so a slice of that is numbers from 0; `HIP_VISIBLE_DEVICES`, and
    `CUDA_VISIBLE_DEVICES` in its place, are not nested. Source: ROCm documentation, GPU isolation techniques.
    """
    if not is_amd:
        given = environ.get(CUDA)
        if given is None:
            return GpuView(problems=problems)
        names = _well_formed(given)
        return GpuView(_unnamed(names), names, names, problems=(*problems, *_hidden(given, len(names))))
    variables = (CUDA, _HIP, *((_OPENCL,) if _OPENCL in environ else ()))
    if _ROCR in environ:
        names = tuple(map(str, range(len(_well_formed(environ[_ROCR])))))
        return GpuView(_unnamed(names), names, variables=variables)
    given = environ.get(_HIP, environ.get(CUDA))
    if given is None:
        return GpuView(variables=variables)
    names = _well_formed(given)
    return GpuView(_unnamed(names), names, variables=variables)


def select_visible(devices: tuple[Device, ...], variable: str | None) -> tuple[Device, ...]:
    """Return the devices that the variable leaves, in its order. None means all of them.

    Entries are numbers, or (unique beginnings of) UUIDs, as the first one is; the list ends before the first
    entry that is not a device; an entry that occurs twice makes it empty. Numbers and UUIDs of a partitioned
    GPU mean its first instance. A device that does not answer keeps its place, so that the others are found.
    Source: CUDA programming guide, environment variables; MIG user guide, device enumeration; findings about
    the driver in PyTorch's `_parse_visible_devices`.
    """
    if variable is None:
        return devices
    is_incomplete = any(device.facts is None for device in devices)
    chosen: list[Device] = []
    for entry in _well_formed(variable):
        device = _named(devices, entry) if entry.startswith(_NAMES) else _numbered(devices, int(entry))
        if device is None and is_incomplete and entry.startswith(_NAMES):
            continue  # it may be the one that does not answer
        if device is None:
            break
        if device in chosen:
            return ()
        chosen.append(device)
    return tuple(chosen)


def _well_formed(variable: str) -> tuple[str, ...]:
    """Return the entries before the first invalid one ("-1", "NoDevFiles"); none at all when one occurs twice.

    Numbers are read as strtoul(3) does it.
    """
    entries = [entry.strip() for entry in variable.split(",")]
    uses_names = entries[0].startswith(_NAMES)
    chosen: list[str] = []
    for entry in entries:
        number = _NUMBER.match(entry)
        if uses_names and entry.startswith(_NAMES):
            chosen.append(entry)
        elif not uses_names and number is not None:
            chosen.append(str(int(number[1])))
        else:
            break
    return tuple(chosen) if len(set(chosen)) == len(chosen) else ()


def _hidden(given: str | None, taken: int) -> tuple[str, ...]:
    """Return a sentence if the variable hides all, or CUDA does not accept all that it names."""
    if given is None:
        return ()
    if not taken and "," not in given:
        return (f'{CUDA}="{given}" hides all GPUs',)
    entries = given.count(",") + 1
    return (f"CUDA takes {taken} of the {entries} entries of {CUDA}={given}",) if taken < entries else ()


def _numbered(devices: tuple[Device, ...], number: int) -> Device | None:
    return next((device for device in devices if device.number == number), None)


def _named(devices: tuple[Device, ...], name: str) -> Device | None:
    """Return the device by (the beginning of) an instance's names, or its GPU's; None for none or several."""
    if name.startswith("MIG-"):
        instances = [device for device in devices if device.is_instance and device.facts is not None]
        found = [one for one in instances if one.older_name == name] or [
            one for one in instances if one.facts is not None and one.facts.uuid.startswith(name)
        ]
        return found[0] if len(found) == 1 else None
    gpus = {device.gpu_uuid: device for device in reversed(devices) if device.gpu_uuid.startswith(name)}
    return next(iter(gpus.values())) if len(gpus) == 1 else None


def _unnamed(names: Sequence[str]) -> tuple[Gpu, ...]:
    return tuple(Gpu(index=index, uuid="") for index in range(len(names)))
