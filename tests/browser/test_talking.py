"""Asking on the page: answers that grow, stop, fail and follow each other, in both ways of asking."""

import asyncio
import itertools
import re
from typing import Any

import pytest

from gateway.commands.demo import demo_config
from gateway.config import Assistant, Server
from gateway.demo import create_demo
from gateway.demo.answers import THOUGHTS
from gateway.demo.models import SECOND
from gateway.serve import listening

from .conftest import INTERVAL, Demo, Open, Serve
from .playground import WAYS, Playground, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")

SLOW_INTERVAL = 0.01  # seconds to a token: the answer takes a second, in which a busy machine draws it often, too
WATCH = """
() => {
  const lengths = window.lengths = []
  const note = () => lengths.push(document.querySelector('.prose')?.textContent.length ?? 0)
  window.observer?.disconnect()
  window.observer = new MutationObserver(note)
  const whole = {subtree: true, childList: true, characterData: true}
  window.observer.observe(document.querySelector('#conversation'), whole)
}
"""


async def test_an_answer_grows_as_it_arrives(serve: Serve, open_page: Open):
    async with listening(create_demo(interval=SLOW_INTERVAL), "127.0.0.1", 0, access_log=None) as demo:
        page = await open_page(await serve(upstreams=demo_config(f"{demo}/v1").upstreams))
        await an_answer_grows(page)


async def an_answer_grows(page: Playground) -> None:
    for way in WAYS:
        await page.page.evaluate(WATCH)
        turn = await page.answer("What are server-sent events?", way=way)
        lengths: list[int] = await page.page.evaluate("window.lengths")
        assert lengths == sorted(lengths)
        assert len(set(lengths)) >= 5  # how many more depends on the machine: it is drawn once to a frame at most
        assert lengths[-1] == await turn.locator(".prose").evaluate("(prose) => prose.textContent.length")
        await expect(turn.locator(".prose strong")).to_have_text("demo model")
        await expect(turn.locator(".measures summary")).to_contain_text("Complete")
        await page.button("New conversation").click()


async def test_what_it_took_is_told(page: Playground):
    turn = await page.answer("Hello", model="demo-reasoning")
    line = turn.locator(".measures summary")
    await expect(line).to_contain_text("first token 0.")
    await expect(line).to_contain_text("tokens/s")
    await line.click()
    details = turn.locator(".measures dl")
    for name in ("Time to first token", "Whole time", "Tokens per second", "Deltas", "Stream"):
        await expect(details.get_by_text(name, exact=True)).to_be_visible()
    for said in ("of them reasoning", "stop", "complete", "demo-reasoning", "fetch"):
        await expect(details).to_contain_text(said)


async def test_stopping_lets_the_model_go(page: Playground, demo: Demo):
    for way in WAYS:
        turn = await page.ask("Hello", model="demo-clock", way=way)
        await expect(turn.locator(".prose")).to_contain_text("5: This is an SSE message.")
        await expect(page.page.locator("#state")).to_have_text("Streaming")
        assert demo.answering == 1
        if way == "fetch":
            await page.button("Stop").click()
        else:
            await page.page.keyboard.press("Escape")
        await page.over(turn)
        await demo.let_go()
        await expect(turn.locator(".measures summary")).to_contain_text("Stopped")
        await expect(turn.locator(".measures summary")).to_contain_text("deltas/s")
        await expect(turn.locator(".prose")).to_contain_text("1: This is an SSE message.")
        await expect(turn.locator(".failure")).to_be_hidden()


FAILURES = {
    "demo-cut": ("The answer broke off", "a part of the answer", "upstream_incomplete", "Incomplete"),
    "demo-error": ("The demo failed", "Asking again may work.", "demo_error", "Failed"),
    "demo-429": ("Rate limit reached", "Wait a little before you ask again", "upstream_rate_limited", "Failed"),
}


async def test_a_failure_says_what_to_do(page: Playground):
    for way, (model, told) in itertools.product(WAYS, FAILURES.items()):
        turn = await page.answer("Hello", model=model, way=way)
        message, advice, code, end = told
        for said in (message, advice, code):
            await expect(turn.locator(".failure")).to_contain_text(said)
        await expect(turn.locator(".measures summary")).to_contain_text(end)
        await expect(page.page.get_by_role("status")).to_contain_text(message)
        if model != "demo-429":
            await expect(turn.locator(".prose")).to_contain_text("Hello! 👋 I am")  # what came is kept


async def test_a_question_that_failed_is_asked_again_in_its_place(page: Playground):
    turn = await page.answer("Hello", model="demo-cut")
    await page.choose(model="demo")
    await turn.get_by_role("button", name="Ask again").click()
    await page.over(turn)
    await expect(page.turns).to_have_count(1)
    await expect(turn.locator(".measures summary")).to_contain_text("Complete")
    await expect(turn.locator(".failure")).to_be_hidden()
    assert page.asked[0]["messages"] == page.asked[1]["messages"]


async def test_what_an_event_source_cannot_read_is_asked_with_fetch(page: Playground):
    page.expected = "414"
    question = "Hello, " + 900 * "again and "
    turn = await page.answer(question, way="EventSource")
    await expect(turn.locator(".failure")).to_contain_text("The query is over 8 KiB.")
    await turn.get_by_role("button", name="Ask with fetch").click()
    await page.over(turn)
    await expect(turn.locator(".prose")).to_contain_text("I am the demo model")


async def test_what_the_gateway_refuses_is_told_in_its_words(open_page: Open, serve: Serve):
    page = await open_page(await serve(server=Server(max_body_bytes=1024)))
    page.expected = "413"
    turn = await page.answer("x" * 2000)
    for said in ("The body is over 1024 bytes.", "start a new one", "413 body_too_large"):
        await expect(turn.locator(".failure")).to_contain_text(said)
    await expect(turn.locator(".measures summary")).to_contain_text("Refused")


async def test_thoughts_are_folded_away(page: Playground):
    turn = await page.answer("Hello", model="demo-reasoning")
    await expect(turn.locator(".thoughts")).to_be_hidden()
    await expect(turn.locator(".reasoning summary")).to_contain_text("Thought")
    await expect(turn.locator(".prose")).not_to_contain_text("The person wants")
    await turn.locator(".reasoning summary").click()
    await expect(turn.locator(".thoughts")).to_have_text("".join(THOUGHTS).strip())


async def test_tools_and_refusals_are_told_apart_from_answers(page: Playground):
    turn = await page.answer("Hello", model="demo-tools")
    calls = turn.get_by_role("list", name="Tools that the model calls").get_by_role("listitem")
    await expect(calls.nth(0)).to_have_text('get_weather{"city":"Oslo"}')
    await expect(calls.nth(1)).to_have_text('get_weather{"city":"上海"}')
    turn = await page.answer("Hello", model="demo-refusal")
    await expect(turn.locator(".refusal")).to_contain_text("The model refused")
    await expect(turn.locator(".prose")).to_be_empty()


async def test_turns_are_kept_and_sent_along(page: Playground):
    await page.answer("Hello", model="demo")
    await page.answer("Nothing will come", model="demo-429")
    await page.answer("What is a stream?", model="demo", way="EventSource")
    await expect(page.page.locator("#hint")).to_contain_text("each question stands alone")
    await page.answer("And then?", way="fetch")
    await expect(page.turns).to_have_count(4)
    sent: list[dict[str, Any]] = page.asked[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert [message["content"] for message in sent[::2]] == ["Hello", "What is a stream?", "And then?"]
    assert sent[1]["content"].startswith("Hello! 👋")
    assert len(page.asked) == 3  # the other was a GET
    await page.button("New conversation").click()
    await expect(page.turns).to_have_count(0)
    await expect(page.question).to_be_focused()
    await page.answer("Hello")
    assert page.asked[-1]["messages"] == [{"role": "user", "content": "Hello"}]


APART = "not part of the conversation"


async def test_only_whole_answers_are_sent_along(page: Playground):
    refused = await page.answer("one", model="demo-refusal")
    for model in ("demo-cut", "demo-error", "demo-tools"):
        turn = await page.answer(model, model=model)
        await expect(turn.locator(".measures summary")).to_contain_text(APART)
    turn = await page.ask("two", model="demo-clock")
    await expect(turn.locator(".prose")).to_contain_text("1: This")
    await expect(turn.locator(".measures summary")).not_to_contain_text(APART)  # not yet known
    await page.page.keyboard.press("Escape")
    await page.over(turn)
    await expect(turn.locator(".measures summary")).to_contain_text(APART)
    whole = await page.answer("three", model="demo")
    assert [message["content"] for message in page.asked[-1]["messages"][::2]] == ["one", "three"]
    for turn in (refused, whole):
        await expect(turn.locator(".measures summary")).not_to_contain_text(APART)


SILENT = b'event: start\ndata: {}\n\nevent: end\ndata: {"reason":"complete","finish_reason":"stop","attempts":1}\n\n'


async def test_a_question_without_an_answer_does_not_drop_out_unsaid(page: Playground):
    await page.page.route("**/chat*", lambda route: route.fulfill(content_type="text/event-stream", body=SILENT))
    turn = await page.answer("Hello")
    await expect(turn.locator(".measures summary")).to_contain_text(APART)
    await page.answer("Are you there?")
    assert page.asked[-1]["messages"] == [{"role": "user", "content": "Are you there?"}]


async def test_the_hint_says_what_enter_does(page: Playground):
    hint, keys = page.page.locator("#hint"), page.page.locator("#keys")
    await expect(keys).to_contain_text("Enter sends")
    await page.choose(model="demo-clock")
    await expect(hint).to_contain_text("a line a second")
    await page.ask("Hello")
    await expect(page.page.locator("#state")).to_have_text("Streaming")
    await expect(hint).to_contain_text("a line a second")
    await page.question.fill("More")  # that cannot be sent yet
    await page.question.press("Enter")
    await expect(hint).to_have_text("Esc or Stop first, then Enter sends.")
    await page.choose(model="demo")
    await page.question.fill("")
    await expect(hint).to_have_text("Esc or Stop first, then Enter sends.")
    await expect(keys).to_be_hidden()
    await page.question.fill("More")
    await page.question.press("Escape")
    await expect(keys).to_be_visible()
    await page.question.press("Enter")
    await page.over(page.turns.last)
    await expect(page.turns).to_have_count(2)


async def test_the_slow_one_is_slow_as_it_says(page: Playground):
    await expect(page.button("demo-slow")).to_have_text("demo-slowIs silent for eight seconds. Then it answers slowly.")
    turn = await page.ask("Hello", model="demo-slow")
    await expect(turn.locator(".prose")).not_to_be_empty()
    waited = await turn.locator(".measures summary").inner_text()
    first_token = re.search(r"first token (\d\.\d+) s", waited)
    assert first_token
    assert float(first_token[1]) >= 8 * SECOND.tokens * INTERVAL * 0.9
    await page.page.keyboard.press("Escape")
    await page.over(turn)


async def test_an_example_is_asked_with_its_model(page: Playground):
    await page.button("demo-refusal").click()
    await page.over(page.turns.last)
    await expect(page.turns.last.locator(".refusal")).to_be_visible()
    await expect(page.page.get_by_label("Model", exact=True)).to_have_value("demo-refusal")
    await expect(page.page.locator("#hint")).to_contain_text("Refuses.")
    await expect(page.question).to_be_focused()


async def test_assistants_are_offered_where_there_are_some(open_page: Open, serve: Serve):
    assistants = {"tutor": Assistant(model="demo-reasoning", system=["Explain."])}
    page = await open_page(await serve(assistants=assistants))
    await expect(page.page.get_by_label("Assistant")).to_have_value("")  # nobody is chosen for the person
    await page.page.get_by_label("Assistant").select_option("tutor")
    turn = await page.answer("Hello")
    assert {"assistant": "tutor"}.items() <= page.asked[-1].items()
    assert "model" not in page.asked[-1]
    await expect(turn.locator(".reasoning")).to_be_visible()


async def test_a_model_is_written_where_none_are_configured(open_page: Open, serve: Serve):
    page = await open_page(await serve(models=[], default_model="demo-slow"))
    name = page.page.get_by_role("textbox", name="Model")
    assert await name.get_attribute("placeholder") == "demo-slow"
    await name.fill("demo-refusal")
    await page.answer("Hello")
    assert page.asked[-1]["model"] == "demo-refusal"
    await name.fill("missing")
    turn = await page.answer("Hello")
    await expect(turn.locator(".failure")).to_contain_text("Choose another model below.")


async def test_the_page_follows_a_reader_who_is_at_the_end(page: Playground):
    at_end = "innerHeight + scrollY >= document.documentElement.scrollHeight - 32"
    await page.answer("Write a program.")
    assert await page.page.evaluate(at_end)
    await page.ask("Hello", model="demo-clock")
    await expect(page.turns.last.locator(".prose")).to_contain_text("1: This")
    await page.page.evaluate("scrollTo(0, 0)")
    await expect(page.button("Latest")).to_be_visible()
    await asyncio.sleep(0.2)  # four ticks of the clock, which do not scroll
    assert await page.page.evaluate("scrollY") == 0
    await page.button("Latest").click()
    assert await page.page.evaluate(at_end)
    await page.page.keyboard.press("Escape")
    await page.over(page.turns.last)


ODD = b"""event: start
data: {}

event: tool_call
data: {"id":"a","function":{"name":"f","arguments":null}}

event: tool_call
data: {"function":{"arguments":"1"}}

event: tool_call
data: {"id":"b","function":{"name":"g"}}

event: tool_call
data: {"index":1,"id":"","function":null}

event: news
data: of no interest

event: failure
data: {"error":{"message":"It is `over` https://example.com/","type":"t","code":null},"retryable":false}

event: end
data: {"reason":"incomplete","finish_reason":"length","model":null,"usage":{"prompt_tokens":1},"attempts":2,"skipped":3}

"""


async def test_odd_events_are_taken_as_they_come(page: Playground):
    await page.page.route(
        "**/chat*", lambda route: route.fulfill(content_type="text/event-stream", body=ODD.replace(b"\n", b"\r\n"))
    )
    turn = await page.answer("Hello")
    await expect(turn.locator(".calls li")).to_have_text(["f1", "g"])
    await expect(turn.locator(".failure strong")).to_have_text("It is over https://example.com/")
    await expect(turn.locator(".failure a")).to_have_count(0)
    await expect(turn.locator(".failure p")).to_have_text("Asking the same again will not help.")
    await expect(turn.locator(".failure button")).to_be_hidden()
    await turn.locator(".measures summary").click()
    for said in ("1 in, ? out", "Skipped events3", "Attempts2"):
        await expect(turn.locator(".measures dl")).to_contain_text(said)
