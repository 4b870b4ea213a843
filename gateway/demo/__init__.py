"""The demo upstream: a small OpenAI-compatible server that needs no key, no network and no model.

It serves to try the gateway, to develop clients and to test load. Its answers say that they come from a demo. Some of
its models (`models.MODELS`) misbehave in the ways that real providers do.

    create_demo -> server (HTTP) -> request (the question) -> models (the steps of an answer)
                                                           -> playback (sends the steps in time)
                                 -> values (embeddings, moderations, ranks: computed, and sent at once)
"""

from .server import create_demo

__all__ = ["create_demo"]
