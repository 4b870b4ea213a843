"""The JavaScript of README and of `.github/docs/clients.md` for a page, as it stands there, in a browser."""

import pytest

from gateway.demo.answers import answer_to
from tests.test_readme import blocks, document

from .playground import Playground

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_eventsource_example_collects_the_answer(page: Playground):
    (example,) = (block for block in blocks("js") if block.startswith("const question"))
    listen = "await new Promise((resolve) => source.addEventListener('end', resolve))"
    answer = await page.page.evaluate(f"async () => {{ {example}\n{listen}\nreturn [answer, source.readyState] }}")
    assert answer == ["".join(answer_to("Who are you?", None)), 2]


async def test_the_fetch_example_collects_the_answer(page: Playground):
    (example,) = (block for block in blocks("js", document("clients.md")) if block.startswith("const response"))
    answer = await page.page.evaluate(f"async () => {{ {example}\nreturn text }}")
    assert answer == "".join(answer_to("Who are you?", None))
