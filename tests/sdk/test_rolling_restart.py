"""A rolling restart of two gateways behind nginx, while the documents' clients ask one question after the other.

Their lines run as they stand there, but for the address and the question, which is the client's name here.
"""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.rig.clients import eventually
from tests.rig.scripted_upstream import DONE, Pause, Received, ScriptedUpstream, Step, delta, finish, stream
from tests.sdk.node import needs, running
from tests.test_nginx_conf import deployed
from tests.test_readme import blocks, document

pytestmark = needs("openai", "eventsource")

QUESTION = "Who are you?"

# Each asks until it is answered "over", and prints all answers as JSON.
PYTHON = """
import contextlib, io, json, sys
answers = [""]
while answers[-1] != "over":
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(sys.argv[1], {})
    answers.append(printed.getvalue())
print(json.dumps(answers[1:]))
"""
NODE = """
%s
const answers = []
while (answers.at(-1) !== 'over') answers.push(await ask())
console.log(JSON.stringify(answers))
process.exit()
"""


async def openai_python(address: str) -> Any:
    (lines,) = blocks("python")
    lines = lines.replace("http://127.0.0.1:8080", address).replace(QUESTION, "openai_python")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PYTHON, lines, stdout=pipe, stderr=pipe)
    try:
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return json.loads(output)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def openai_node(address: str) -> Any:
    (lines,) = (block for block in blocks("js", document("clients.md")) if "from 'openai'" in block)
    imports, _, lines = lines.replace("http://127.0.0.1:8080", address).partition("\n")
    lines = lines.replace("process.stdout.write(", "(answer += ").replace(QUESTION, "openai_node")
    return await printed(f"{imports}\nasync function ask() {{\nlet answer = ''\n{lines}\nreturn answer\n}}")


async def event_source(address: str) -> Any:
    """npm's, which has the interface of the browser's. A failure, and a connection that is given up, are answers."""
    (lines,) = (block for block in blocks("js") if "new EventSource(" in block)
    lines = lines.replace("`/chat", f"`{address}/chat").replace(QUESTION, "event_source")
    wait = (
        "await new Promise((resolve) => { console.error = resolve; source.addEventListener('end', () => resolve()) })"
        ".then((error) => { if (error) answer += ` ${error}` })"
    )
    imports = "import { EventSource } from 'eventsource'"
    return await printed(f"{imports}\nasync function ask() {{\n{lines}\n{wait}\nreturn answer\n}}")


async def printed(source: str) -> Any:
    async with running(NODE % source, within=60) as answers:
        return answers


CLIENTS = (openai_python, openai_node, event_source)


class Upstream:
    """What the scripted upstream answers, and which clients it has answered."""

    def __init__(self, scripted: ScriptedUpstream) -> None:
        self.text = "Hello"
        self.answered = Counter[str]()
        scripted.script(self._script)

    def _script(self, received: Received) -> list[Step]:
        self.answered.update(client.__name__ for client in CLIENTS if client.__name__.encode() in received.body)
        half = len(self.text) // 2
        return stream(delta(self.text[:half]), Pause(0.05), delta(self.text[half:]), finish(), DONE)

    async def answers_each(self) -> None:
        """Waits until each client has asked twice more, so that the first of these answers is whole."""
        before = self.answered.copy()
        await eventually(lambda: all(self.answered[c.__name__] >= before[c.__name__] + 2 for c in CLIENTS), within=20)


@pytest.mark.long
async def test_no_client_loses_an_answer(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer is whole, and the model is asked once for each."""
    pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")
    model = Upstream(upstream)
    for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
        monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    async with deployed(upstream, tmp_path) as deploy, asyncio.timeout(60), asyncio.TaskGroup() as clients:
        address = f"https://127.0.0.1:{deploy.site.port}"
        asking = [clients.create_task(client(address)) for client in CLIENTS]
        await model.answers_each()
        for number in (0, 1):
            await deploy.stop(number)
            await model.answers_each()
            await deploy.start(number)
            await model.answers_each()
        model.text = "over"
    answers = [client.result() for client in asking]
    for told in answers:
        assert told == ["Hello"] * (len(told) - 1) + ["over"]
    assert sum(map(len, answers)) == model.answered.total() == len(upstream.requests)
