"""A hub on loopback, and huggingface_hub pointed at it, with a cache and a login of its own."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import made_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[made_hub.Hub]:
    """A hub without repositories; the token of the environment may write to `me/...`."""
    package = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    constants = importlib.import_module("huggingface_hub.constants")
    with made_hub.serving() as served:
        settings = {
            "ENDPOINT": served.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{served.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,  # the protocol of large files that needs servers of its own
            "HF_HUB_DISABLE_TELEMETRY": True,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", made_hub.TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        package.close_session()  # of another test, with another proxy
        yield served
        package.close_session()
