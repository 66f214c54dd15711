"""Optional packages: which extra of kerbseg brings each, and how it is installed here."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, distribution, requires
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit
from urllib.request import url2pathname

EXTRAS = {  # of the modules that are imported
    "ai_edge_litert": "tflite",
    "ai_edge_quantizer": "tflite",
    "av": "video",
    "cv2": "video",
    "executorch": "executorch",
    "fastapi": "serve",
    "fsspec": "ray",
    "gradio": "app",
    "huggingface_hub": "hub",
    "kornia": "train",
    "lightning": "train",
    "matplotlib": "train",
    "ncnn": "ncnn",
    "nncf": "int8",
    "numba": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "openvino": "openvino",
    "pnnx": "ncnn",
    "pyarrow": "ray",
    "python_multipart": "serve",
    "ray": "ray",
    "rosbags": "bags",
    "starlette": "serve",
    "tensorboard": "train",
    "uvicorn": "serve",
    "websockets": "serve",
    "xxhash": "zenoh",
    "zenoh": "zenoh",
}
REQUIRED = {  # modules that kerbseg always brings, but for images with exported models alone; and their packages
    "jinja2": "jinja2",
    "safetensors": "safetensors",
    "torch": "torch",
    "torchmetrics": "torchmetrics",
    "yaml": "pyyaml",
}


def how_to_install(extra: str) -> str:
    """The command that adds an extra to the kerbseg that runs, wherever that was installed from."""
    try:
        origin = distribution("kerbseg").read_text("direct_url.json")
    except PackageNotFoundError:  # run from its sources
        return f"in the checkout of kerbseg run: pip install -e '.[{extra}]'"
    if origin is None:
        return f"run: pip install 'kerbseg[{extra}]'"
    facts = json.loads(origin)
    address = str(facts["url"])
    if not address.startswith("file:"):
        kind = f"{facts['vcs_info']['vcs']}+" if "vcs_info" in facts else ""
        return f"run: pip install {quote(f'kerbseg[{extra}] @ {kind}{address}')}"
    folder = Path(url2pathname(urlsplit(address).path))
    editable = "-e " if facts.get("dir_info", {}).get("editable") else ""
    if not folder.exists():  # copied away, as into an image
        return f"in a checkout of kerbseg run: pip install {editable}'.[{extra}]'"
    return f"run: pip install {editable}{quote(f'{folder}[{extra}]')}"


def first_missing(extra: str) -> str | None:
    """The first module of an extra, and of those that it includes, that is not installed; None where all are."""
    wanted = _with_included(extra)
    return next((module for module, its in EXTRAS.items() if its in wanted and find_spec(module) is None), None)


def _with_included(extra: str) -> set[str]:
    """An extra with those that kerbseg's own requirements name under it, such as export under openvino."""
    try:
        lines = requires("kerbseg") or []
    except PackageNotFoundError:  # run from its sources: what is missing is seen when it is imported
        lines = []
    marked = f"extra == [\"']{extra}[\"']"
    inner = [re.match(r"kerbseg\[([\w,-]+)\]", line) for line in lines if re.search(marked, line)]
    named = {each for match in inner if match for each in match[1].split(",")}
    return {extra}.union(*(_with_included(each) for each in named))
