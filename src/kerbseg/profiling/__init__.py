"""What a network costs (parameters, operations, bytes) and how long it takes, with the machine that it took it on."""

from kerbseg.profiling.cost import Cost, LayerCost, cost
from kerbseg.profiling.latency import Budget, Latency, Skipped

__all__ = ["Budget", "Cost", "Latency", "LayerCost", "Skipped", "cost"]
