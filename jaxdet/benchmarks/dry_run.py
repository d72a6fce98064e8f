"""The plan of a training run, without training: size, memory, steps and time."""

import time
from typing import Any

import jax

from jaxdet import data, terminal
from jaxdet.benchmarks import ahead
from jaxdet.training import setup as runs


def describe(cfg: Any, run: runs.Run, batches: data.Batches) -> None:
    """Print parameters, memory, steps and time per epoch, the last measured over a few steps."""
    stream = runs.device_batches(batches, run.mesh)
    batch = next(stream)
    current, carry = run.state, run.carry
    memory = runs.memory_estimate(run, batch)
    for _ in range(3):
        began = time.perf_counter()
        current, carry, values = run.train_step(current, carry, batch)
        jax.block_until_ready(values)
    step_s = time.perf_counter() - began
    batches.close()
    steps = cfg.train.iterations_per_epoch * run.segments
    print(f"parameters        {run.num_parameters:,}")
    print(f"memory a device   {memory / 2**20:,.0f} MiB for a step")
    print(f"steps             {run.num_steps:,} in all, {steps:,} per epoch")
    print(f"time              {step_s:.3f} s per step, {terminal.duration(step_s * steps)} per epoch")


def plan(cfg: Any, cluster: ahead.Cluster, batches: data.Batches) -> None:
    """Print what a run on GPUs that need not be there takes: memory, lanes, and times by estimate."""
    batch = next(batches)
    batches.close()
    row = ahead.trained(cfg, cluster, batch)
    steps = cfg.train.iterations_per_epoch * runs.num_segments(cfg.data)
    total = cfg.train.num_iterations * runs.num_segments(cfg.data)
    epoch = terminal.duration(row["estimated_ms"] / 1e3 * steps)
    verdict = "fits" if row["fits"] else "does not fit"
    print(f"target            {len(cluster.devices)} x {cluster.target.product} on {cluster.hosts} host(s)")
    print(f"parameters        {row['parameters']:,}")
    print(
        f"memory a device   {row['peak_mib']:,.0f} MiB for a step, {verdict} in "
        f"{cluster.target.memory_bytes / 2**20:,.0f} MiB, of which a tenth is left to CUDA and NCCL"
    )
    print(f"lanes a device    {row['lanes_a_device']}; about {row['lanes_that_fit']} fit")
    print(f"steps             {total:,} in all, {steps:,} per epoch")
    print(f"kernels           {row['launches']:,} per step")
    print(
        f"time (estimate)   {row['estimated_ms'] / 1e3:.3f} s per step, {epoch} per epoch, if data keeps up"
    )
    for name, text in ahead.assumptions().items():
        print(f"  assumed         {name}: {text}")
