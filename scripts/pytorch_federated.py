#!/usr/bin/env python3
"""PyTorch's side of compare_pytorch_federated.py: rounds of federated averaging as a plain loop in one process.

    pytorch_federated.py MODEL MNIST_DIRECTORY SECONDS plain|channels_last THREADS

McMahan's round: 10 of 100 clients with 600 samples each, one epoch in batches of 10, plain SGD from the global model,
mean weighted by samples. The samples are one tensor in memory, a batch is taken from it by index. THREADS 0: as many
as PyTorch takes by itself.
"""

import gzip
import pathlib
import sys
import time

import numpy
import torch
import torch.nn.functional as F

from pytorch_step import MODELS

CLIENTS, COHORT, SAMPLES, BATCH, RATE = 100, 10, 600, 10, 0.05
WARMUP_ROUNDS = 1


def idx(directory, name, header):
    plain = pathlib.Path(directory) / name
    content = plain.read_bytes() if plain.exists() else gzip.open(f"{plain}.gz").read()
    return numpy.frombuffer(content, numpy.uint8, offset=header)


def main():
    name, directory, seconds, layout, threads = (sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4],
                                                 int(sys.argv[5]))
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(1)
    make, shape = MODELS[name]
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    images = torch.from_numpy(idx(directory, "train-images-idx3-ubyte", 16).copy()).view(-1, *shape).float().div_(255)
    images = images.contiguous(memory_format=memory_format)
    labels = torch.from_numpy(idx(directory, "train-labels-idx1-ubyte", 8).copy()).long()
    clients = torch.randperm(CLIENTS * SAMPLES).view(CLIENTS, SAMPLES)
    model = make().to(memory_format=memory_format)
    parameters = list(model.parameters())
    state = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.SGD(parameters, lr=RATE)

    def train(samples):
        with torch.no_grad():
            for parameter, value in zip(parameters, state):
                parameter.copy_(value)
        order = samples[torch.randperm(SAMPLES)]
        for first in range(0, SAMPLES, BATCH):
            batch = order[first:first + BATCH]
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()

    def one_round():
        sums = [torch.zeros_like(value) for value in state]
        for client in torch.randperm(CLIENTS)[:COHORT]:
            train(clients[client])
            with torch.no_grad():
                for total, parameter in zip(sums, parameters):
                    total.add_(parameter, alpha=SAMPLES)
        for value, total in zip(state, sums):
            value.copy_(total.div_(COHORT * SAMPLES))

    for _ in range(WARMUP_ROUNDS):
        one_round()
    rounds, start = 0, time.perf_counter()
    while rounds < 2 or time.perf_counter() - start < seconds:
        one_round()
        rounds += 1
    print(f"seconds_per_round {(time.perf_counter() - start) / rounds:.6f} rounds {rounds} "
          f"threads {torch.get_num_threads()} torch {torch.__version__}")


if __name__ == "__main__":
    main()
