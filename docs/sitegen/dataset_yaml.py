"""The reference of `dataset.yaml`, from the models that read it."""

from __future__ import annotations

from pydantic import BaseModel

from kerbseg.data.dataset_yaml import ClassEntry, DatasetFile, Paths
from sitegen.schema import heading, meanings, table

HEAD = """# dataset.yaml

`dataset.yaml` says what the masks of your own pictures hold. It lies in the folder of the pictures
([how to make one](../own-data.md)). `kerbseg doctor folder --data-root my_streets` checks it and names the key that is
wrong.

"""
SECTIONS: dict[str, tuple[str, type[BaseModel]]] = {  # by the name of the model
    "ClassEntry": ("classes[]", ClassEntry),
    "Paths": ("paths", Paths),
}


def page() -> str:
    """Every key of the file, of a class in it, and of its paths."""
    links = {name: key for name, (key, _) in SECTIONS.items()}
    parts = [HEAD, "## The file\n\n", _keys(DatasetFile, links)]
    for key, model in SECTIONS.values():
        parts += ["\n", heading(2, key), f"\n{(model.__doc__ or '').strip()}\n\n", _keys(model, links)]
    return "".join(parts)


def _keys(model: type[BaseModel], links: dict[str, str]) -> str:
    schema = model.model_json_schema()
    return table(schema["properties"], schema.get("required", []), meanings(model), links)
