"""Between requests and the threads that segment: jobs are submitted, and awaited while who asked is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.requests import ClientDisconnect, Request

from kerbseg.serve.jobs import Job
from kerbseg.serve.refusals import DEFECT, Refusal, line_of, status_of
from kerbseg.serve.service import Service


async def answered(request: Request, service: Service, jobs: Sequence[Job]) -> list[Any]:
    """What came of each job, an exception where it failed.

    Raises Refusal where there is no room for them, and ClientDisconnect where the client has left: jobs that wait are
    cancelled then.
    """
    service.submit(jobs)
    outcomes = asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs), return_exceptions=True)
    outcomes.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else asks, where one left
    left = asyncio.create_task(_left(request))
    try:
        await asyncio.wait((outcomes, left), return_when=asyncio.FIRST_COMPLETED)
        if not outcomes.done():
            raise ClientDisconnect
        return outcomes.result()
    finally:
        left.cancel()
        outcomes.cancel()  # which changes nothing where they are done


async def answered_one(request: Request, service: Service, job: Job) -> Any:
    """What came of a job. Raises what it failed with, a Refusal for a defect (logged by then), and as `answered`."""
    (outcome,) = await answered(request, service, [job])
    if isinstance(outcome, BaseException) and status_of(outcome) is DEFECT:
        raise Refusal(DEFECT, line_of(outcome)) from outcome
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def _left(request: Request) -> None:
    """Returns when the client is gone; its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
