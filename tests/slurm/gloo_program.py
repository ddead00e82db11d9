"""Adds the ranks of all processes that torchrun has started, with gloo; each rank prints the sum."""

import importlib
import os

torch, dist = map(importlib.import_module, ("torch", "torch.distributed"))  # not where types are checked

dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1])
dist.all_reduce(total)
print(
    f"rank {dist.get_rank()} of {dist.get_world_size()} on {os.environ['SFLOW_TASK_NODE_NAME']}: {int(total)}",
    flush=True,
)
dist.destroy_process_group()
