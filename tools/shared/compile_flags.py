"""XLA's flags for programs that run once or a few times, where compilation is most of the time.

``QUICK`` leaves out LLVM's optimisation and generates code in one module a program, with jaxlib 0.10 also the older
way: together 2.5 times as fast to compile on a CPU there. Set it in the environment's ``XLA_FLAGS`` before jax is
imported.
"""

import importlib.metadata

QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # newer ones end the process at this flag
    QUICK += " --xla_cpu_use_fusion_emitters=false"
