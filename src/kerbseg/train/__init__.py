"""Training: a recipe is a frozen value read from one YAML; `fit` turns it into a bundle."""
