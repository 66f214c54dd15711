"""A service that segments pictures over HTTP, and the client of it.

The client needs nothing but what kerbseg brings; the service is imported where it runs (`kerbseg.serve.server`).
"""

from kerbseg.serve.client import Client, FrameResult, Frames, ServiceError

__all__ = ["Client", "FrameResult", "Frames", "ServiceError"]
