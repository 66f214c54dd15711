"""The Open Inference Protocol (KServe's version 2), for those who have clients of it.

A model takes the tensor `pictures` (UINT8, b h w 3, RGB) and gives `ids` (UINT8, b h w), and where it is asked for
`confidence` (FP32, b h w). Tensors stand in JSON, or behind it as bytes (the binary tensor data extension).
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter
from jaxtyping import UInt8
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import kerbseg
from kerbseg.predict import Prediction
from kerbseg.runtime import SupportsConfidence
from kerbseg.serve.jobs import Job
from kerbseg.serve.limits import Limits
from kerbseg.serve.refusals import BAD_REQUEST, TOO_LARGE, Refusal, line_of, status_of
from kerbseg.serve.service import ServedModel, Service
from kerbseg.serve.uploads import read_body
from kerbseg.serve.waiting import answered

HEADER_LENGTH = "inference-header-content-length"  # bytes of JSON before those of tensors
PICTURES, IDS, CONFIDENCE = "pictures", "ids", "confidence"
DATATYPES = {IDS: "UINT8", CONFIDENCE: "FP32"}


@dataclass(frozen=True)
class Inference:
    """A request as it was understood."""

    pictures: UInt8[np.ndarray, "b h w 3"]
    outputs: Mapping[str, bool]  # what is wanted, and whether its data come as bytes
    id: str | None


def router(service: Service, errors: dict[int | str, dict[str, Any]]) -> APIRouter:
    """The addresses of the protocol; `errors` describes what can go wrong."""
    routes = APIRouter(tags=["KServe v2"])
    unknown: dict[int | str, dict[str, Any]] = {each: errors[each] for each in (401, 404)}

    @routes.get("/v2")
    async def server() -> dict[str, Any]:
        """Name and version of the service."""
        return {"name": "kerbseg", "version": kerbseg.__version__, "extensions": ["binary_tensor_data"]}

    @routes.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        """Whether the service runs."""
        return {"live": True}

    @routes.get("/v2/health/ready")
    async def ready() -> dict[str, bool]:
        """Whether all models can be asked."""
        return {"ready": True}

    @routes.get("/v2/models/{name}", responses=unknown)
    async def metadata(name: str) -> dict[str, Any]:
        """Inputs and outputs of a model."""
        return _metadata(service.model(name))

    @routes.get("/v2/models/{name}/ready", responses=unknown)
    async def model_ready(name: str) -> dict[str, Any]:
        """Whether a model can be asked."""
        return {"name": service.model(name).name, "ready": True}

    @routes.post("/v2/models/{name}/infer", responses=errors)
    async def infer(name: str, request: Request) -> Response:
        """Segment the pictures of a tensor."""
        service.model(name)  # refused before the body is read
        body = await read_body(request, service.limits)
        asked = await asyncio.to_thread(parsed, body, request.headers.get(HEADER_LENGTH), service.limits)
        confidence = CONFIDENCE in asked.outputs
        jobs = [Job(name, partial(np.asarray, picture), _arrays, confidence) for picture in asked.pictures]
        outcomes = await answered(request, service, jobs)
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, BaseException):
                again_s = getattr(outcome, "retry_after_s", None)
                raise Refusal(status_of(outcome), f"picture {number}: {line_of(outcome)}", again_s) from outcome
        return await asyncio.to_thread(_response, name, asked, outcomes)

    return routes


def _metadata(model: ServedModel) -> dict[str, Any]:
    can_tell = isinstance(model.predictor.runtime, SupportsConfidence)
    return {
        "name": model.name,
        "platform": f"kerbseg_{model.predictor.runtime.name}",
        "inputs": [{"name": PICTURES, "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, -1, -1]}
            for name, datatype in DATATYPES.items()
            if name == IDS or can_tell
        ],
    }


def parsed(body: bytes, header_length: str | None, limits: Limits) -> Inference:
    """What a request asks for. Raises Refusal where it is not of the protocol, or beyond the limits."""
    length = len(body) if header_length is None else int(header_length) if header_length.isdecimal() else -1
    if not 0 <= length <= len(body):
        raise _bad(f"{HEADER_LENGTH} is {header_length!r}, and the body has {len(body)} bytes")
    try:
        asked = json.loads(body[:length])
        [tensor] = asked["inputs"]
        name, datatype, shape = tensor["name"], tensor["datatype"], tuple(tensor["shape"])
        outputs = asked.get("outputs") or [{"name": IDS}]
        as_bytes = bool(_parameters(asked).get("binary_data_output", False))
        wanted = {each["name"]: bool(_parameters(each).get("binary_data", as_bytes)) for each in outputs}
        named = asked.get("id")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _bad(f"the request is no JSON of one input with name, datatype and shape ({error})") from error
    if unknown := wanted.keys() - DATATYPES.keys():
        raise _bad(f"there is no output {min(map(str, unknown))!r}; outputs are {', '.join(DATATYPES)}")
    if (name, datatype) != (PICTURES, "UINT8"):
        raise _bad(f"the input is {name!r} of {datatype!r}; it is {PICTURES!r} of 'UINT8'")
    pictures = _pixels(tensor, _checked_shape(shape, limits), body[length:])
    return Inference(pictures, wanted, named if named is None else str(named))


def _parameters(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of a part. Raises Refusal where they have no names."""
    parameters = part.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise _bad(f"parameters are an object of names and values, not {type(parameters).__name__}")
    return parameters


def _checked_shape(shape: Sequence[Any], limits: Limits) -> tuple[int, int, int, int]:
    """Raises Refusal for what is no shape of RGB pictures, or of more pixels than a picture may have."""
    if len(shape) != 4 or not all(type(side) is int and side >= 1 for side in shape) or shape[3] != 3:
        raise _bad(f"the shape is {list(shape)}; pictures are [number, height, width, 3]")
    count, height, width, _ = shape
    if height * width > limits.pixels:
        raise Refusal(TOO_LARGE, f"pictures of {height}x{width} (HxW); at most {limits.pixels:,} pixels are taken")
    if count > limits.queue:
        raise Refusal(TOO_LARGE, f"{count} pictures at once, and at most {limits.queue} may wait; send fewer")
    return count, height, width, 3


def _pixels(tensor: Mapping[str, Any], shape: tuple[int, int, int, int], behind: bytes) -> UInt8[np.ndarray, "b h w 3"]:
    number = math.prod(shape)
    size = _parameters(tensor).get("binary_data_size")
    if size is not None or "data" not in tensor:
        if size != number or len(behind) != number:
            raise _bad(f"{list(shape)} are {number} bytes; {len(behind)} came, and binary_data_size is {size}")
        return np.frombuffer(behind, np.uint8).reshape(shape)
    try:
        values = np.asarray(tensor["data"])
    except ValueError as error:  # lists of different lengths
        raise _bad("the data are no numbers of that shape") from error
    if values.size != number or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise _bad(f"the data are {values.size} of {values.dtype}; {list(shape)} are {number} whole numbers, 0 to 255")
    return values.astype(np.uint8).reshape(shape)


def _arrays(prediction: Prediction) -> dict[str, np.ndarray]:
    found = {IDS: prediction.ids}
    return found if prediction.confidence is None else {**found, CONFIDENCE: prediction.confidence}


def _response(name: str, asked: Inference, outcomes: Sequence[Mapping[str, np.ndarray]]) -> Response:
    outputs, behind = [], b""
    for output, as_bytes in asked.outputs.items():
        values = np.stack([outcome[output] for outcome in outcomes])
        tensor: dict[str, Any] = {"name": output, "datatype": DATATYPES[output], "shape": list(values.shape)}
        if as_bytes:
            data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
            tensor["parameters"] = {"binary_data_size": len(data)}
            behind += data
        else:
            tensor["data"] = values.ravel().tolist()
        outputs.append(tensor)
    facts = {"model_name": name, "outputs": outputs} | ({} if asked.id is None else {"id": asked.id})
    if not any(asked.outputs.values()):
        return JSONResponse(facts)
    head = json.dumps(facts).encode()
    return Response(head + behind, media_type="application/octet-stream", headers={HEADER_LENGTH: str(len(head))})


def _bad(message: str) -> Refusal:
    return Refusal(BAD_REQUEST, message)
