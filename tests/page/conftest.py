"""Networks that need no time."""

from made_models import bright, made  # noqa: F401  fixtures
