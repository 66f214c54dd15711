"""A model as it travels to workers: its files, so that no machine needs a copy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from kerbseg.model_files import locate
from kerbseg.runtime import Runtime, RuntimeOptions, open_runtime
from kerbseg.runtime.engines import files_of


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model by name; the one that is opened is `name`."""

    name: str
    files: Mapping[str, bytes]

    @classmethod
    def read(cls, model: str | Path) -> ModelFiles:
        """Of a path, a run's folder or the name of shipped weights. Raises BundleError where there is none."""
        path = locate(model)
        return cls(path.name, {each.name: each.read_bytes() for each in files_of(path) if each.is_file()})

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that tell one model from another."""
        content = hashlib.sha256()
        for name in sorted(self.files):
            content.update(self.files[name])
        return content.hexdigest()[:16]

    def open(self, options: RuntimeOptions) -> Runtime:
        """The runtime, on this machine. Raises as `open_runtime`."""
        with TemporaryDirectory(prefix="kerbseg-model-") as folder:  # an open runtime needs its files no more
            for name, content in self.files.items():
                (Path(folder) / name).write_bytes(content)
            return open_runtime(Path(folder) / self.name, options)
