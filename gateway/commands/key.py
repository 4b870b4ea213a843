"""The command `gateway key`: makes an API key, and the lines of the configuration that accept it."""

import json
import secrets
import sys
from hashlib import sha256

from gateway.commands.standard_streams import tell


def print_key(name: str) -> None:
    key = "gw-" + secrets.token_urlsafe(32)
    shown = _shown(json.dumps(name, ensure_ascii=False))  # a TOML string: `arguments.name` admits no control characters
    tell(f"The API key of {name}. It is not stored and not shown again:")
    print(f"\n  {key}\n", flush=True)
    tell("Add these lines to the configuration file to accept it:")
    print(f'\n[[keys]]\nname = {shown}\nhash = "sha256:{sha256(key.encode()).hexdigest()}"')


def _shown(text: str) -> str:
    """The text with TOML escapes for characters that standard output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    return "".join([c if c.encode(encoding, "ignore") else f"\\U{ord(c):08x}" for c in text])
