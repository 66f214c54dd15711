"""What a network costs: parameters, operations, bytes."""

from kerbseg.profiling.cost import Cost, LayerCost, cost

__all__ = ["Cost", "LayerCost", "cost"]
