"""The only place that talks to upstreams: one POST, its response as reads of bytes, foreign errors translated once.

Decisions, and the reasons for them:

- `total` is never aiohttp's: its default of 300 s cuts long answers. The connection phase cannot be seen from outside
  of the library, so its timer is used for that phase. The generation's watchdog keeps all other time.
- Redirects are not followed: they would send the prompt and the key to wherever the other side says.
- The gateway asks for no content coding, since compression holds events back. Where a server compresses regardless,
  `codings` decodes the body in pieces. aiohttp's own decoder does not know `x-gzip`.
- A pooled connection may have been closed just as it is used again. The request is then sent once more on a new
  connection, but only if no byte of a response came: else the upstream may have begun to work, and to charge.
- Nothing bounds the number of connections here: each belongs to a stream, and those are bounded at admission.
"""

from gateway.upstream.client.posting import UpstreamClient
from gateway.upstream.client.response import UpstreamResponse, can_push

__all__ = ["UpstreamClient", "UpstreamResponse", "can_push"]
