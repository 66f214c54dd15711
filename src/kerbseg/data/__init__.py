"""Data sets: raw uint8 samples with train ids. Their readers are imported when one is asked for.

Reading pictures (`kerbseg.data.pictures`), which prediction does, thus costs the import of no data set.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers know
    from kerbseg.data.datasets import DATASETS as DATASETS
    from kerbseg.data.datasets import NEEDS_NO_ROOT as NEEDS_NO_ROOT
    from kerbseg.data.datasets import SPLITS as SPLITS
    from kerbseg.data.datasets import check_name as check_name
    from kerbseg.data.datasets import data_root as data_root
    from kerbseg.data.datasets import is_known as is_known
    from kerbseg.data.datasets import open_dataset as open_dataset
    from kerbseg.data.datasets import open_unchecked as open_unchecked
    from kerbseg.data.datasets import picture_file as picture_file
    from kerbseg.data.datasets import splits as splits
else:
    _NAMES = (
        "DATASETS",
        "NEEDS_NO_ROOT",
        "SPLITS",
        "check_name",
        "data_root",
        "is_known",
        "open_dataset",
        "open_unchecked",
        "picture_file",
        "splits",
    )

    def __getattr__(name: str) -> Any:
        if name not in _NAMES:
            raise AttributeError(f"module 'kerbseg.data' has no attribute {name!r}")
        return getattr(import_module("kerbseg.data.datasets"), name)

    def __dir__() -> list[str]:
        return sorted([*globals(), *_NAMES])
