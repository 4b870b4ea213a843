"""The demo upstream: a small OpenAI-compatible server that needs no key, no network and no model.

It is there to try the gateway, to develop against and to load-test with. It answers in honest texts of its own,
and some of its models (`models.MODELS`) misbehave on request, the way that real providers do.

    create_demo -> server (HTTP) -> request (what is asked) -> models (what happens, step by step)
                                                            -> playback (the steps, on the wire, in time)
"""

from .server import create_demo

__all__ = ["create_demo"]
