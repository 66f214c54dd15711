"""kerbseg: real-time semantic segmentation for robots and vehicles that carry a small computer.

A public name is imported from its home when it is first used, so that importing kerbseg costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what type checkers know; a test compares it with `_HOMES`
    from kerbseg import predict as predict
    from kerbseg.accelerate import accelerate as accelerate
    from kerbseg.bundle import load as load
    from kerbseg.bundle import save as save
    from kerbseg.calibrate import calibrate as calibrate
    from kerbseg.core.errors import BundleError as BundleError
    from kerbseg.core.errors import DataError as DataError
    from kerbseg.core.errors import InputError as InputError
    from kerbseg.core.errors import KerbsegError as KerbsegError
    from kerbseg.core.errors import MissingExtra as MissingExtra
    from kerbseg.core.errors import RecipeError as RecipeError
    from kerbseg.data import open_dataset as open_dataset
    from kerbseg.evaluate import evaluate as evaluate
    from kerbseg.export import export as export
    from kerbseg.models import create_model as create_model
    from kerbseg.models import list_models as list_models
    from kerbseg.predict import Prediction as Prediction
    from kerbseg.predict import Predictor as Predictor
    from kerbseg.runtime import open_runtime as open_runtime
    from kerbseg.runtime.upsample_argmax import upsample_argmax as upsample_argmax
    from kerbseg.train.run import train as train
else:
    _HOMES = {
        "BundleError": "kerbseg.core.errors",
        "DataError": "kerbseg.core.errors",
        "InputError": "kerbseg.core.errors",
        "KerbsegError": "kerbseg.core.errors",
        "MissingExtra": "kerbseg.core.errors",
        "Prediction": "kerbseg.predict",
        "Predictor": "kerbseg.predict",
        "RecipeError": "kerbseg.core.errors",
        "accelerate": "kerbseg.accelerate",
        "calibrate": "kerbseg.calibrate",
        "create_model": "kerbseg.models",
        "evaluate": "kerbseg.evaluate",
        "export": "kerbseg.export",
        "list_models": "kerbseg.models",
        "load": "kerbseg.bundle",
        "open_dataset": "kerbseg.data",
        "open_runtime": "kerbseg.runtime",
        "save": "kerbseg.bundle",
        "train": "kerbseg.train.run",
        "upsample_argmax": "kerbseg.runtime.upsample_argmax",
    }

    __all__ = ["__version__", *_HOMES]

    class _Package(ModuleType):
        """A package whose functions keep their names when its subpackages `train`, `export` ... are imported.

        The import system sets a subpackage as an attribute of its package; here `kerbseg.train` stays the function,
        whoever imports what first. The function has the subpackage's modules as attributes, so that
        `import kerbseg.train.fit as m` works: it asks for `kerbseg.train` and then for its `fit`. What else is in a
        subpackage is imported from it: `from kerbseg.evaluate import Report`.
        """

        def __setattr__(self, name: str, value: Any) -> None:
            if name not in _HOMES or not isinstance(value, ModuleType):
                super().__setattr__(name, value)

        def __getattr__(self, name: str) -> Any:
            if name == "predict":  # a public subpackage: kerbseg.predict.video(source, predictor)
                return import_module("kerbseg.predict")
            if name not in _HOMES:
                raise AttributeError(f"module 'kerbseg' has no attribute {name!r}")
            from kerbseg.core.errors import needing_extras

            with needing_extras():
                value = getattr(import_module(_HOMES[name]), name)
            if (subpackage := sys.modules.get(f"kerbseg.{name}")) is None:
                setattr(self, name, value)
            else:
                value.__dict__.update(_modules_of(subpackage))
            return value

        def __dir__(self) -> list[str]:
            return sorted([*(name for name in vars(self) if name.startswith("__")), *_HOMES])

    def _modules_of(package: ModuleType) -> dict[str, ModuleType]:
        inside = f"{package.__name__}."
        attributes = vars(package).items()
        return {
            key: each for key, each in attributes if isinstance(each, ModuleType) and each.__name__.startswith(inside)
        }

    sys.modules[__name__].__class__ = _Package
