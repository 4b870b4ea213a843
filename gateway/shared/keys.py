"""The names of keys in Redis. Keys of one stream share a hash tag, so a cluster keeps them in one slot.

{prefix}s:{ID}:log         a Redis Stream: batches of entries; the id of a batch is `N-0`, N its last entry's number
{prefix}s:{ID}:meta        a hash: who produces the stream, who started it, and the hashes of its tickets
{prefix}p:{PROCESS}:lease  exists as long as the process lives
{prefix}p:{PROCESS}:inbox  a Redis Stream: messages to the process
{prefix}i:{HASH}           which stream an idempotency key has started
{prefix}r:{HASH}           which upstream has made a response, and for whom
{prefix}l:{HASH}:...       the limits of a caller: see `admission.limit_commands`
{prefix}probe              is written to see whether Redis takes writes again
"""

from hashlib import sha256


class Keys:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    @property
    def probe(self) -> str:
        return f"{self.prefix}probe"

    def log(self, stream_id: str) -> str:
        return f"{self.prefix}s:{{{stream_id}}}:log"

    def meta(self, stream_id: str) -> str:
        return f"{self.prefix}s:{{{stream_id}}}:meta"

    def lease(self, process: str) -> str:
        return f"{self.prefix}p:{{{process}}}:lease"

    def inbox(self, process: str) -> str:
        return f"{self.prefix}p:{{{process}}}:inbox"

    def idempotency(self, caller: str, key: str) -> str:
        """A hash, because callers choose the key, and may put a secret into it."""
        digest = sha256(caller.encode() + b"\n" + key.encode()).hexdigest()
        return f"{self.prefix}i:{digest}"

    def place(self, response: str) -> str:
        """A hash, because the upstream chooses the id."""
        return f"{self.prefix}r:{sha256(response.encode()).hexdigest()}"
