"""What a repository of ours says of itself in `config.json`: its network, its classes, and what files it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from kerbseg.bundle_card import BundleCard

CONFIG, WEIGHTS, README = "config.json", "model.safetensors", "README.md"  # names in a repository
FORMAT = 1
LIBRARY: Final = "kerbseg"

Content = bytes | Path


@dataclass(frozen=True)
class FileFacts:
    """By which a file that came whole is known."""

    size: Annotated[int, Field(ge=0)]  # bytes
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @classmethod
    def of(cls, content: Content) -> FileFacts:
        """Those of a file or of bytes."""
        if isinstance(content, bytes):
            return cls(len(content), hashlib.sha256(content).hexdigest())
        with content.open("rb") as file:
            return cls(content.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True)
class Manifest:
    """The content of `config.json`; what else stands in it is left out."""

    library_name: Literal["kerbseg"]
    format: int
    model: str  # the network
    input_size: tuple[int, int]  # height, width
    id2label: Mapping[str, str]  # as other libraries of the hub have it
    files: Mapping[str, FileFacts]  # those that a push has written, but for config and README

    @classmethod
    def of(cls, card: BundleCard, files: Mapping[str, Content]) -> Manifest:
        """That of a model with these files."""
        names = {str(index): name for index, name in enumerate(card.labels.classes)}
        facts = {name: FileFacts.of(content) for name, content in files.items()}
        return cls(LIBRARY, FORMAT, card.model, card.input_size, names, facts)

    @classmethod
    def parse(cls, text: str | bytes) -> Manifest:
        """What a `config.json` says. Raises ValueError for one that is not ours, or damaged."""
        return TypeAdapter(cls).validate_json(text)

    def to_json(self) -> str:
        """As it stands in the file."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
