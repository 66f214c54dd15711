"""Values that every other part speaks in: samples, labels, errors."""
