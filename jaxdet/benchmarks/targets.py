"""GPUs that programs can be compiled for without having them: one table, with its sources.

What the compiler asks for (`gpu_device_info`) is from the descriptions that XLA publishes,
github.com/openxla/xla, xla/backends/gpu/target_config/specs. Peaks of the tensor cores (dense) and of NVLink
(one direction) are from NVIDIA's data sheets of the products.
"""

import importlib.util
import warnings
from typing import Any, NamedTuple

from jaxdet.errors import InputError


class Target(NamedTuple):
    """A GPU as the compiler sees it, and the peaks that an estimate of time needs."""

    product: str
    capability: tuple[int, int]  # CUDA compute capability
    cores: int  # streaming multiprocessors
    lanes_per_core: int  # float32 units of a multiprocessor
    clock_ghz: float
    memory_bytes: int
    memory_bandwidth: int  # bytes/s
    l2_bytes: int
    shared_bytes: tuple[int, int]  # shared memory of a multiprocessor, most that a block may ask for
    threads_per_core: int
    tensor_float32: float  # FLOP/s of float32 products as XLA runs them (TF32 where there is one)
    tensor_half: float  # FLOP/s of bfloat16 products, of float16 on V100
    link_bandwidth: float  # bytes/s to the other devices of a host, one direction

    @property
    def float32(self) -> float:
        """FLOP/s of the float32 units, an addition and a multiplication at once."""
        return 2e9 * self.cores * self.lanes_per_core * self.clock_ghz


_T, _G = 1e12, 1e9
_KB = 1024
# fmt: off
TARGETS = {
    "v100": Target("Tesla V100-SXM2-16GB", (7, 0), 80, 64, 1.53, 16_935_682_048, 898_048_000_000, 6_291_456,
                   (96 * _KB, 96 * _KB), 2048, 15.7 * _T, 125 * _T, 150 * _G),
    "a100": Target("NVIDIA A100-SXM4-40GB", (8, 0), 108, 64, 1.41, 42_331_013_120, 1_555_200_000_000,
                   41_943_040, (164 * _KB, 163 * _KB), 2048, 156 * _T, 312 * _T, 300 * _G),
    "a100-80gb": Target("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 1.41, 85_100_068_864, 2_039_040_000_000,
                        41_943_040, (164 * _KB, 163 * _KB), 2048, 156 * _T, 312 * _T, 300 * _G),
    "a6000": Target("NVIDIA RTX A6000", (8, 6), 84, 128, 1.8, 51_041_271_808, 768_096_000_000, 6_291_456,
                    (100 * _KB, 99 * _KB), 1536, 77.4 * _T, 154.8 * _T, 32 * _G),
    "h100": Target("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 1.98, 84_942_979_072, 3_352_320_000_000,
                   52_428_800, (228 * _KB, 227 * _KB), 2048, 494 * _T, 989 * _T, 450 * _G),
    "h200": Target("NVIDIA H200 141GB HBM3e", (9, 0), 132, 128, 1.98, 151_397_597_184, 4_800_000_000_000,
                   52_428_800, (228 * _KB, 227 * _KB), 2048, 494 * _T, 989 * _T, 450 * _G),
    "b200": Target("NVIDIA B200", (10, 0), 148, 128, 1.965, 191_514_411_008, 7_672_320_000_000, 132_644_864,
                   (228 * _KB, 227 * _KB), 2048, 1125 * _T, 2250 * _T, 900 * _G),
}
# fmt: on

_DESCRIPTION = """gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  threads_per_core_limit: {t.threads_per_core}
  core_count: {t.cores}
  fpus_per_core: {t.lanes_per_core}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {t.memory_bandwidth}
  l2_cache_size: {t.l2_bytes}
  clock_rate_ghz: {t.clock_ghz}
  device_memory_size: {t.memory_bytes}
  shared_memory_per_block_optin: {optin}
  cuda_compute_capability {{ major: {t.capability[0]} minor: {t.capability[1]} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  device_vendor: "NVIDIA Corporation"
  name: "{t.product}"
  driver_version: "13.0.0"
  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{t.product}"
"""


def find(name: str) -> Target:
    """The row of `name`; raises InputError for one that the table lacks."""
    if name not in TARGETS:
        raise InputError(f"--target={name}: expected one of {', '.join(TARGETS)}")
    return TARGETS[name]


def description(target: Target) -> str:
    """The protobuf text of `target` that XLA's GPU compiler takes in place of the device."""
    shared, optin = target.shared_bytes
    return _DESCRIPTION.format(t=target, shared=shared, optin=optin)


def devices(name: str, hosts: int = 1, per_host: int = 1) -> list[Any]:
    """Abstract devices to compile for, `per_host` on each of `hosts`; none of them need exist.

    Raises InputError for a name that the table lacks, and where the compiler is not installed (the extras
    `cuda12` and `cuda13`).
    """
    target = find(name)
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        raise InputError(
            f"--target={name}: XLA's compiler for CUDA is not installed; "
            "pip install 'jaxdet[cuda12]' (no GPU is needed)"
        )
    from jax.experimental import topologies

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        topology = topologies.get_topology_desc(
            name, platform="cuda", target_config=description(target), topology=f"{hosts}x{per_host}x1"
        )
    return list(topology.devices)
