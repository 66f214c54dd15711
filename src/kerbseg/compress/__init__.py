"""Networks made smaller: gradual grouping."""
