"""One rank of a training in several processes; run by test_ranks, not by itself.

Writes, for every step, what the masks of this rank were.
"""

import faulthandler
import gc
import hashlib
import json
import os
import sys
from datetime import timedelta

import torch
from torch import nn

import gossamer as gs
from gossamer.sparsity import RULES


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16))


def digest(sparsifier: gs.Sparsifier) -> str:
    found = hashlib.sha256()
    for name, mask in sparsifier.masks.items():
        found.update(name.encode() + mask.numpy().tobytes())
    return found.hexdigest()


def train(kind: str, rule: str, out: str) -> None:
    rank = int(os.environ["RANK"])
    model = network(seed=rank)  # the wrappers give every rank the weights of the first
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    if kind == "accelerate":
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        model, optimizer = accelerator.prepare(model, optimizer)
    else:
        model = nn.parallel.DistributedDataParallel(model)
    sparsifier = gs.Sparsifier(
        model, 0.3, rule=RULES[rule](interval=2), pattern=gs.sparsity.Unstructured(), total_steps=12
    ).attach(optimizer)
    told = []
    for step in range(24 if kind == "accelerate" else 12):
        x = torch.randn(8, 12, generator=torch.Generator().manual_seed(100 * step + rank))
        if kind == "accelerate":
            with accelerator.accumulate(model):
                accelerator.backward(model(x).square().mean())
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        else:
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        for name, mask in sparsifier.masks.items():
            assert not sparsifier.weights[name].tensor[~mask].any()
        told.append(digest(sparsifier))
    counts = sparsifier.counts()
    with open(f"{out}.{rank}", "w") as file:
        json.dump({"masks": told, "steps": sparsifier.steps, "counts": counts}, file)


def main(kind: str, rule: str, out: str) -> None:
    faulthandler.dump_traceback_later(120, exit=True)  # a rank that hangs says where
    torch.distributed.init_process_group(
        "gloo",
        # Unlike a port that was found free, a file is nobody else's.
        store=torch.distributed.FileStore(f"{out}.store", int(os.environ["WORLD_SIZE"])),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=timedelta(seconds=60),
    )
    train(kind, rule, out)
    # The data-parallel wrapper must go first. If its reducer is the last to hold the process
    # group, it waits for the group's threads with the interpreter locked, and one that has yet
    # to let go of a Python object waits for the interpreter (seen with torch 2.13).
    gc.collect()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
