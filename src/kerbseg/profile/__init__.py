"""What a network costs: parameters, operations, bytes."""

from kerbseg.profile.cost import Cost, LayerCost, cost

__all__ = ["Cost", "LayerCost", "cost"]
