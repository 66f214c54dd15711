"""A hub on loopback, and huggingface_hub pointed at it, with a cache and a login of its own."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import made_hub
from kerbseg.bundle import read_card
from kerbseg.hub.manifest import CONFIG, README, WEIGHTS, Manifest


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


@pytest.fixture
def streets(hub: made_hub.Hub, camvid_bundle: Path) -> made_hub.Repository:
    """`me/streets` on the hub, as a push of the bundle leaves it."""
    files = {WEIGHTS: camvid_bundle.read_bytes()}
    manifest = Manifest.of(read_card(camvid_bundle), files)
    return hub.make("me/streets", {**files, CONFIG: manifest.to_json().encode(), README: b"---\n---\n"})
