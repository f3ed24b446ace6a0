#!/usr/bin/env python3
"""PyTorch's side of compare_pytorch.py: trains a model for some seconds and prints samples per second.

    pytorch_step.py MODEL BATCH SECONDS plain|channels_last

Alone, or as one of WORLD_SIZE processes (RANK, MASTER_ADDR, MASTER_PORT) of DistributedDataParallel over
gloo. One thread a process; batches are tensors in memory, ready to use; SGD with momentum.
"""

import os
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

WARMUP_STEPS = 5


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A of He et al. 2015)."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.stride = stride
        self.missing = filters - channels

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)), inplace=True)))
        if self.missing:
            x = F.pad(x[:, :, ::self.stride, ::self.stride],
                      (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))
        return F.relu(y + x, inplace=True)


def resnet20():
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    channels = 16
    for filters in (16, 32, 64):
        for block in range(3):
            layers.append(Block(channels, filters, 2 if filters > 16 and block == 0 else 1))
            channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def mlp(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(inplace=True), nn.Linear(width, width),
                         nn.ReLU(inplace=True), nn.Linear(width, 10))


def cnn():
    return nn.Sequential(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
                         nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(3136, 512), nn.ReLU(inplace=True), nn.Linear(512, 10))


MODELS = {"mlp": (lambda: mlp(200), (1, 28, 28)), "wide-mlp": (lambda: mlp(2048), (1, 28, 28)),
          "cnn": (cnn, (1, 28, 28)), "resnet20": (resnet20, (3, 32, 32))}


def main():
    name, batch, seconds, layout = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(1)
    torch.manual_seed(1)
    make, shape = MODELS[name]
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model = make().to(memory_format=memory_format)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        torch.distributed.init_process_group("gloo")
        model = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    # As small as in `superstep bench`, and for the same reason (cluster/bench_command.cpp).
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    batches = [(torch.rand(batch, *shape).contiguous(memory_format=memory_format),
                torch.randint(0, 10, (batch,))) for _ in range(16)]

    def step(i):
        images, labels = batches[i % len(batches)]
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    for i in range(WARMUP_STEPS):
        step(i)
    # As many steps on every process: rank 0 measures a few and tells.
    start = time.perf_counter()
    for i in range(WARMUP_STEPS):
        step(i)
    steps = torch.tensor([max(10, int(seconds * WARMUP_STEPS / (time.perf_counter() - start)))])
    if world > 1:
        torch.distributed.broadcast(steps, 0)
        torch.distributed.barrier()
    start = time.perf_counter()
    for i in range(int(steps)):
        step(i)
    slowest = torch.tensor([time.perf_counter() - start], dtype=torch.float64)
    if world > 1:
        torch.distributed.all_reduce(slowest, torch.distributed.ReduceOp.MAX)
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"samples_per_second {batch * world * int(steps) / float(slowest):.2f} torch {torch.__version__}")


if __name__ == "__main__":
    main()
