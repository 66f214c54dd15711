"""Training: a recipe is a frozen value read from one YAML; `run.train` makes a bundle of it."""
