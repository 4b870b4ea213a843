"""Markdown in the page: what it becomes, that it can do no harm, and that a growing text comes to the same."""

from typing import TYPE_CHECKING, Any

import pytest

from gateway.demo.answers import answer_to

from .playground import Playground, expect

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

DRAW = """
async (texts) => {
  const {markdown} = await import('/playground/markdown.js')
  return texts.map((text) => {
    const root = document.createElement('div')
    markdown(root)(text)
    for (const button of root.querySelectorAll('button')) button.remove()
    for (const node of root.querySelectorAll('*'))
      for (const name of ['role', 'aria-label', 'tabindex', 'title', 'rel', 'target']) node.removeAttribute(name)
    return root.innerHTML
  })
}
"""


CASES = {
    "": "",
    "one\ntwo\n\nthree": "<p>one<br>two</p><p>three</p>",
    "# A\n### B #\n#no": "<h4>A</h4><h6>B</h6><p>#no</p>",
    "a\n\n---\n\n* * *": "<p>a</p><hr><hr>",
    "> a\n> b\n>\n> > c\n\nd": "<blockquote><p>a<br>b</p><blockquote><p>c</p></blockquote></blockquote><p>d</p>",
    # Emphasis
    "*a* **b** ***c*** _d_ __e__ ~~f~~": (
        "<p><em>a</em> <strong>b</strong> <strong><em>c</em></strong> <em>d</em> <strong>e</strong> <del>f</del></p>"
    ),
    "**a *b* c** *d **e***": "<p><strong>a <em>b</em> c</strong> <em>d <strong>e</strong></em></p>",
    "**粗体**文字，**“引”**。": "<p><strong>粗体</strong>文字，<strong>“引”</strong>。</p>",
    "2 * 3 * 4, snake_case_name, a** b": "<p>2 * 3 * 4, snake_case_name, a** b</p>",
    r"\*a\* \\ \_b": r"<p>*a* \ _b</p>",
    "**open *never": "<p>**open *never</p>",
    # Code
    "`a*b*` ``c ` d`` `` ` ``": "<p><code>a*b*</code> <code>c ` d</code> <code>`</code></p>",
    "`open": "<p>`open</p>",
    "```py\nif a < b:\n    c()\n\n# d\n```\nafter": (
        '<div class="code"><div class="code-bar"><span>py</span></div>'
        "<pre><code>if a &lt; b:\n    c()\n\n# d</code></pre></div><p>after</p>"
    ),
    "~~~\n```\n~~~": (
        '<div class="code"><div class="code-bar"><span>text</span></div><pre><code>```</code></pre></div>'
    ),
    # Lists
    "- a\n- b\n  - c\n    - d\n- e": "<ul><li>a</li><li>b<ul><li>c<ul><li>d</li></ul></li></ul></li><li>e</li></ul>",
    "3. a\n\n   more\n4) b": '<ol start="3"><li>a<p>more</p></li><li>b</li></ol>',
    "- [x] done *it*\n- [ ] not\n  - [X] in": (
        '<ul><li class="task"><input type="checkbox" disabled="" checked="">done <em>it</em></li>'
        '<li class="task"><input type="checkbox" disabled="">not'
        '<ul><li class="task"><input type="checkbox" disabled="" checked="">in</li></ul></li></ul>'
    ),
    "1. [ ] a\n2. [x]\n3. [y] b\n\n[x] c": (
        '<ol><li class="task"><input type="checkbox" disabled="">a</li><li>[x]</li><li>[y] b</li></ol><p>[x] c</p>'
    ),
    "1. a\n- b": "<ol><li>a</li></ol><ul><li>b</li></ul>",
    "text:\n- a\nstill a\n\nb": "<p>text:</p><ul><li>a<br>still a</li></ul><p>b</p>",
    "in\n1984. It was": "<p>in<br>1984. It was</p>",
    "1. a\n   ```\n   - no\n   ```\n2. b": (
        '<ol><li>a<div class="code"><div class="code-bar"><span>text</span></div>'
        "<pre><code>- no</code></pre></div></li><li>b</li></ol>"
    ),
    # Tables
    "a:\n| x | y |\n|:--|--:|\n| `1` | **2** |\n| a\\|b |\n\nb": (
        '<p>a:</p><div class="table"><table><thead><tr><th>x</th><th class="end">y</th></tr></thead><tbody>'
        '<tr><td><code>1</code></td><td class="end"><strong>2</strong></td></tr>'
        '<tr><td>a|b</td><td class="end"></td></tr></tbody></table></div><p>b</p>'
    ),
    "a | b\nno table": "<p>a | b<br>no table</p>",
    # Links
    "[a *b*](https://example.com/x_(y) 'title')": '<p><a href="https://example.com/x_(y)">a <em>b</em></a></p>',
    "<https://example.com/a> see https://example.com/?b=1&c=*2*。": (
        '<p><a href="https://example.com/a">https://example.com/a</a> '
        'see <a href="https://example.com/?b=1&amp;c=*2">https://example.com/?b=1&amp;c=*2</a>*。</p>'
    ),
    "[https://a.example](https://b.example)": '<p><a href="https://b.example/">https://a.example</a></p>',
    "![a cat](https://example.com/cat.png)": '<p><a href="https://example.com/cat.png">Image: a cat</a></p>',
    "[me](mailto:a@example.com)": '<p><a href="mailto:a@example.com">me</a></p>',
    # What could do harm stays text
    "[x](javascript:alert(1))": "<p>[x](javascript:alert(1))</p>",
    "[x](JaVaScRiPt:alert%281%29)": "<p>[x](JaVaScRiPt:alert%281%29)</p>",
    "[x](data:text/html,hi) [y](/chat?q=1) [z](//example.com)": (
        "<p>[x](data:text/html,hi) [y](/chat?q=1) [z](//example.com)</p>"
    ),
    "![x](javascript:alert(1)) <javascript:alert(1)>": "<p>![x](javascript:alert(1)) &lt;javascript:alert(1)&gt;</p>",
    "<img src=x onerror=alert(1)><script>alert(2)</script>": (
        "<p>&lt;img src=x onerror=alert(1)&gt;&lt;script&gt;alert(2)&lt;/script&gt;</p>"
    ),
    "# <b>x</b>\n```<i>\n<u>\n```": (
        "<h4>&lt;b&gt;x&lt;/b&gt;</h4>"
        '<div class="code"><div class="code-bar"><span>&lt;i&gt;</span></div><pre><code>&lt;u&gt;</code></pre></div>'
    ),
    "a<br>b<br />c": "<p>a<br>b<br>c</p>",
}


async def test_markdown_becomes_elements(drawing: "Page"):
    drawn = await drawing.evaluate(DRAW, list(CASES))
    assert dict(zip(CASES, drawn, strict=True)) == CASES


GROW = """
async (texts) => {
  const {markdown} = await import('/playground/markdown.js')
  const differing = []
  for (const text of texts) {
    const whole = document.createElement('div')
    markdown(whole)(text)
    const grown = document.createElement('div')
    const show = markdown(grown)
    for (let length = 1; length < text.length; length++) show(text.slice(0, length), {open: true})
    show(text)
    if (grown.innerHTML !== whole.innerHTML) differing.push([text, grown.innerHTML, whole.innerHTML])
  }
  return differing
}
"""


async def test_a_text_that_grew_is_drawn_as_one_that_came_whole(drawing: "Page"):
    questions = ["Hello", "What is it?", "code", "你好", "代码"]
    answers = ["".join(answer_to(question, None)) for question in questions]
    mixed = "\n".join([text for text in CASES if not text.startswith("~~~")])
    apart = "\n\n".join(CASES)
    assert await drawing.evaluate(GROW, [*answers, *CASES, mixed, apart]) == []


UNFINISHED = """
async (texts) => {
  const {markdown} = await import('/playground/markdown.js')
  return texts.map((text) => {
    const root = document.createElement('div')
    markdown(root)(text, {open: true})
    return [root.textContent, root.querySelectorAll('strong, em, code, table').length]
  })
}
"""


async def test_what_is_not_finished_is_not_shown_as_marks(drawing: "Page"):
    texts = {
        "a **b": ["a b", 1],
        "a **b*": ["a b", 2],
        "a **": ["a ", 1],
        "a *b **c": ["a b c", 2],
        "a `b": ["a b", 1],
        "see [the page](https://exam": ["see the page", 0],
        "| a | b |\n|--": ["ab", 1],
        "2 * 3": ["2 * 3", 0],
    }
    drawn = await drawing.evaluate(UNFINISHED, list(texts))
    assert dict(zip(texts, drawn, strict=True)) == texts


TIME = """
async (texts) => {
  const {markdown} = await import('/playground/markdown.js')
  return texts.map((text) => {
    const started = performance.now()
    markdown(document.createElement('div'))(text)
    markdown(document.createElement('div'))(text, {open: true})
    return performance.now() - started
  })
}
"""

TANGLES = (
    *("*a ", "**a *b ", "_a ", "~~a", "`a ``b ", "[a", "[a](b ", "![", "<", "https://", "\\"),
    *("> ", ">", "- ", "1. ", "| ", "# ", "\n", "a|b\n|-\n", "```\n", "\t"),
)


async def test_no_answer_keeps_the_page_busy(drawing: "Page"):
    """100 kB of anything, drawn twice: a fraction of a second as long as the work is linear in the text."""
    texts = [tangle * (100_000 // len(tangle)) for tangle in TANGLES]
    times: list[float] = await drawing.evaluate(TIME, texts)
    slow = {tangle: time for tangle, time in zip(TANGLES, times, strict=True) if time > 5000}
    assert slow == {}


async def test_an_answer_cannot_act(page: Playground):
    attack = (
        "<img src=x onerror=alert(1)><script>alert(2)</script> [x](javascript:alert(3)) ![y](https://example.com/y)"
    )
    turn = await page.answer(attack)
    quoted = turn.locator(".prose blockquote")
    await expect(quoted).to_have_text(attack.replace("![y](https://example.com/y)", "Image: y"))
    assert await turn.locator("img, script, iframe, [onerror], [style]").count() == 0
    links: list[Any] = await turn.get_by_role("link").evaluate_all("all => all.map((a) => [a.href, a.rel, a.target])")
    assert links == [["https://example.com/y", "noopener noreferrer", "_blank"]]


async def test_code_is_copied_as_it_is(page: Playground):
    await page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    turn = await page.answer("Write a program.")
    await turn.get_by_role("button", name="Copy").click()
    await expect(turn.get_by_role("button", name="Copied")).to_be_visible()
    copied = await page.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("import json\nimport urllib.request\n\nbody = {")
