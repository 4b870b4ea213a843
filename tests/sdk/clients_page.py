"""The examples of `.github/docs/clients.md`, as they stand there."""

import re
from pathlib import Path

PAGE = (Path(__file__).parent.parent.parent / ".github" / "docs" / "clients.md").read_text()


def example(language: str, marker: str) -> str:
    """The one example that has `marker` in it."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (block,) = (block for block in found if marker in block)
    return block
