"""Which GPUs an agent may use, and how a task's slice of them is named: the rules of the variables that hide GPUs. Pure.

The controller counts GPUs from 0 within an agent's view. Nothing that reads `CUDA_VISIBLE_DEVICES` nests it: where the
agent inherited "2,3", slice 0 is device 2. Who asks the driver is `runtime/nvml.py`.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

from protocol.messages.node import Gpu
from protocol.text.counted import counted

CUDA, CUDA_ORDER, PCI_ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PCI_BUS_ID"
_HIP, _ROCR, _OPENCL = "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"
_NUMBER = re.compile(r"\+?([0-9]+)")
_NAMES = ("GPU-", "MIG-")


class SliceError(Exception):
    """A task was given GPUs that the agent does not have; the text is for a person."""


class Device(msgspec.Struct, frozen=True):
    """What CUDA can be told to use: a GPU, or one instance of a GPU that is partitioned (MIG)."""

    number: int
    """The GPU's, in PCI order, among those that this process may touch: CUDA counts no others."""
    gpu_uuid: str
    """"GPU-..."; for an instance that of its GPU. Empty where the GPU does not answer."""
    facts: Gpu | None
    """With its own UUID ("MIG-..." for an instance), and any index. None for a GPU that does not answer."""
    older_name: str = ""
    """An instance's "MIG-GPU-<uuid>/<GPU instance>/<compute instance>", before drivers R470."""

    @property
    def is_instance(self) -> bool:
        """Whether it is a part of a GPU: numbers do not tell those apart."""
        return bool(self.older_name)


class Answers(msgspec.Struct, frozen=True):
    """What the driver says."""

    devices: tuple[Device, ...]
    """In PCI order, instances in the place of their GPU."""
    problems: tuple[str, ...] = ()


class GpuView(msgspec.Struct, frozen=True):
    """The GPUs of one agent."""

    gpus: tuple[Gpu, ...] = ()
    cuda: tuple[str, ...] | None = None
    """Each GPU's entry in `CUDA_VISIBLE_DEVICES`. None where nobody knows them: slices then stand as they are."""
    engine: tuple[str, ...] = ()
    """Each GPU's name for container engines; empty where those cannot be asked for GPUs."""
    variables: tuple[str, ...] = (CUDA,)
    """What a slice is written into."""
    problems: tuple[str, ...] = ()
    """Sentences about GPUs that should be there and are not."""

    @property
    def is_counted(self) -> bool:
        """Whether the number of GPUs means anything."""
        return self.cuda is not None or bool(self.gpus)

    def environment(self, indices: Sequence[int], inherited: Mapping[str, str]) -> dict[str, str]:
        """The variables of a task with these GPUs. Raises: SliceError.

        `CUDA_DEVICE_ORDER` comes with numbers: they count in PCI order, CUDA by itself puts the fastest GPU first.
        Whoever has set it keeps it.
        """
        if not indices or self.cuda is None:
            return {}
        names = self._chosen(self.cuda, indices)
        made = dict.fromkeys(self.variables, ",".join(names))
        is_numbered = _HIP not in self.variables and any(_NUMBER.fullmatch(name) for name in names)
        if is_numbered and CUDA_ORDER not in inherited:
            made[CUDA_ORDER] = PCI_ORDER
        return made

    def engine_names(self, indices: Sequence[int]) -> tuple[str, ...]:
        """What to ask a container engine for. Raises: SliceError."""
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
    """GPUs that are only counted."""
    return GpuView(
        tuple(
            Gpu(index=index, uuid=f"GPU-simulated-{index}", name="simulated", simulated=True)
            for index in range(count)
        )
    )


def nvidia_view(answers: Answers, environ: Mapping[str, str]) -> GpuView:
    """What the driver shows, cut to what this process was given.

    Names are numbers, since not every program takes UUIDs, except for instances, and where numbers are in doubt: a GPU that
    does not answer may or may not be counted, and UUIDs that were given in an order of the user's own have no PCI number.
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
    """Without a driver that can be asked (another maker's, or none): what Slurm or the user has given.

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
    """What the variable leaves of the devices, in its order. None means all of them.

    Entries are numbers, or (unique beginnings of) UUIDs, as the first one is; the list ends before the first entry that is
    no device; an entry that comes twice makes it empty. Numbers and UUIDs of a partitioned GPU mean its first instance. What
    does not answer keeps its place, so that the others are found. Source: CUDA programming guide, environment variables;
    MIG user guide, device enumeration; what PyTorch's `_parse_visible_devices` has found out about the driver.
    """
    if variable is None:
        return devices
    is_incomplete = any(device.facts is None for device in devices)
    chosen: list[Device] = []
    for entry in _well_formed(variable):
        device = _named(devices, entry) if entry.startswith(_NAMES) else _numbered(devices, int(entry))
        if device is None and is_incomplete and entry.startswith(_NAMES):
            continue  # it may well be the one that does not answer
        if device is None:
            break
        if device in chosen:
            return ()
        chosen.append(device)
    return tuple(chosen)


def _well_formed(variable: str) -> tuple[str, ...]:
    """The entries before the first that names nothing ("-1", "NoDevFiles"); none at all when one comes twice.

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
    """A sentence where the variable hides all, or CUDA does not take all that it names."""
    if given is None:
        return ()
    if not taken and "," not in given:
        return (f'{CUDA}="{given}" hides all GPUs',)
    entries = given.count(",") + 1
    return (f"CUDA takes {taken} of the {entries} entries of {CUDA}={given}",) if taken < entries else ()


def _numbered(devices: tuple[Device, ...], number: int) -> Device | None:
    return next((device for device in devices if device.number == number), None)


def _named(devices: tuple[Device, ...], name: str) -> Device | None:
    """By (the beginning of) an instance's names, or of its GPU's; None when that is none or several."""
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
