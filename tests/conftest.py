"""What several tests need: the real CamVid where it is, and one thread a process."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tests run side by side
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start


@pytest.fixture(scope="session")
def kerbseg_data() -> Path:
    """The folder of the real data sets."""
    if "KERBSEG_DATA" not in os.environ:
        pytest.skip("KERBSEG_DATA is not set: it names the folder above camvid/")
    return Path(os.environ["KERBSEG_DATA"])


@pytest.fixture(scope="session")
def camvid_data(kerbseg_data: Path) -> Path:
    """The real CamVid."""
    root = kerbseg_data / "camvid"
    if not root.is_dir():
        pytest.skip("KERBSEG_DATA holds no camvid/")
    return root
