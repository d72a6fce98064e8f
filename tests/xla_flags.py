"""Flags of XLA that make the programs of tests compile faster, which takes most of their time."""

from importlib.metadata import version

# jaxlib after 0.10 does not know this flag, and ends the process at one that it does not know.
KNOWS_FUSION_EMITTERS = version("jaxlib").startswith("0.10.")

# Optimised less, programs that run once or twice take two thirds of the time; the older emitter of fused
# loops takes another quarter or more off.
FAST_COMPILES = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
if KNOWS_FUSION_EMITTERS:
    FAST_COMPILES += " --xla_cpu_use_fusion_emitters=false"

# Options of a single program that runs longer than it compiles: the flags above undone.
OPTIMISED = {
    "xla_backend_optimization_level": 2,
    "xla_llvm_disable_expensive_passes": False,
    **({"xla_cpu_use_fusion_emitters": True} if KNOWS_FUSION_EMITTERS else {}),
}
