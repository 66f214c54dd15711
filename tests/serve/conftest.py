"""The service that most tests ask."""

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed (extra serve)")
pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra serve)")

from serving import Bright, running, service

from kerbseg.predict import Predictor
from kerbseg.serve import Client


@pytest.fixture(scope="session")
def served():
    """Its server, with two models."""
    with running(service(Bright(), Bright(), workers=2)) as server:
        yield server


@pytest.fixture(scope="session")
def client(served):
    """Asks that server."""
    with Client(served.address) as each:
        yield each


@pytest.fixture(scope="session")
def predictor():
    """The same network without a service."""
    return Predictor(Bright())
