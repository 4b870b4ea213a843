"""Formulas in the page: shown as they were written, also while they arrive, and nothing else taken for one."""

import random
from typing import TYPE_CHECKING

import pytest

from .playground import Playground, expect
from .test_markdown import DRAW, GROW, TIME

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")


CASES = {  # <m> stands for a formula in a line, <l> for a long one, <d> for one that has its lines for itself
    # As it was written, without escapes and emphasis
    r"so \(a^2 + b_1*c_2*d\) holds": r"<p>so <m>\(a^2 + b_1*c_2*d\)</m> holds</p>",
    r"\[E = m*c*d\]": r"<p><d>\[E = m*c*d\]</d></p>",
    r"$$\frac{1}{2} \_ \{x\}$$": r"<p><d>$$\frac{1}{2} \_ \{x\}$$</d></p>",
    r"with \[x\] in the middle": r"<p>with <m>\[x\]</m> in the middle</p>",
    "the $$x_1$$ here": "<p>the <m>$$x_1$$</m> here</p>",
    r"$x_1*y*z$, $n$, $-1$ and $\$5 \cdot 2$.": (
        r"<p><m>$x_1*y*z$</m>, <m>$n$</m>, <m>$-1$</m> and <m>$\$5 \cdot 2$</m>.</p>"
    ),
    r"\[ a \\[2pt] b \\\]": r"<p><d>\[ a \\[2pt] b \\\]</d></p>",
    r"**so \(a**b\)** and 2*x \(a*b\)": r"<p><strong>so <m>\(a**b\)</m></strong> and 2*x <m>\(a*b\)</m></p>",
    r"# On \(x_1\)": r"<h4>On <m>\(x_1\)</m></h4>",
    "| a |\n|---|\n| \\(x_1*y*z\\) |": (
        '<div class="table"><table><thead><tr><th>a</th></tr></thead>'
        r"<tbody><tr><td><m>\(x_1*y*z\)</m></td></tr></tbody></table></div>"
    ),
    r"[see \(x\)](https://example.com/)": r'<p><a href="https://example.com/">see <m>\(x\)</m></a></p>',
    # On several lines, of which some look like something else
    "Then\n\\[\n  a\n- b\n> 0\n# c\n\\]\nfollows": "<p>Then<d>\\[\n  a\n- b\n&gt; 0\n# c\n\\]</d>follows</p>",
    "$$\na |\n---|\n$$": "<p><d>$$\na |\n---|\n$$</d></p>",
    "1. one\n   $$\n   a\n   + b\n   $$\n2. two": "<ol><li>one<d>$$\na\n+ b\n$$</d></li><li>two</li></ol>",
    "- \\[\n  a\n  \\]\n- b": "<ul><li><d>\\[\na\n\\]</d></li><li>b</li></ul>",
    "> $$\n> - a\n> $$\n\nb": "<blockquote><p><d>$$\n- a\n$$</d></p></blockquote><p>b</p>",
    "\\[a\\]\n\\[b\\]": r"<p><d>\[a\]</d><d>\[b\]</d></p>",
    # Code is code
    r"`\(a\)` ``$$`` `$x$`": r"<p><code>\(a\)</code> <code>$$</code> <code>$x$</code></p>",
    "```tex\n\\[\na\n\\]\n$$\n```\n$x$": (
        '<div class="code"><div class="code-bar"><span>tex</span></div>'
        "<pre><code>\\[\na\n\\]\n$$</code></pre></div><p><m>$x$</m></p>"
    ),
    "Write `$$` before\n- and `$$` behind": (
        "<p>Write <code>$$</code> before</p><ul><li>and <code>$$</code> behind</li></ul>"
    ),
    "*a `b*` c*": "<p><em>a <code>b*</code> c</em></p>",
    # Money and other dollars
    "$5 and $6, *$7-$8*": "<p>$5 and $6, <em>$7-$8</em></p>",
    "US$5 *or* 6$ *or* CA$7": "<p>US$5 <em>or</em> 6$ <em>or</em> CA$7</p>",
    "between $5 *and* 6$": "<p>between $5 <em>and</em> 6$</p>",
    "$HOME/bin:$PATH *and* $a and $b": "<p>$HOME/bin:$PATH <em>and</em> $a and $b</p>",
    r"\$5 *and* \$6": "<p>$5 <em>and</em> $6</p>",
    "- A: $$\n- B: $$\n- C: $$$": "<ul><li>A: $$</li><li>B: $$</li><li>C: $$$</li></ul>",
    "A ($$) *and* B ($$)": "<p>A ($$) <em>and</em> B ($$)</p>",
    # Without an end: the backslash stays, the rest is Markdown
    r"\(a *b*": r"<p>\(a <em>b</em></p>",
    "\\[\n- *a*\n\nb": r"<p>\[</p><ul><li><em>a</em></li></ul><p>b</p>",
    "$$\n# a": "<p>$$</p><h4>a</h4>",
    r"a\) \] \\(b\\)": r"<p>a) ] \(b\)</p>",
    # It can do no harm
    "\\(<img src=x onerror=alert(1)>\\)\n$$<script>$$": (
        r"<p><l>\(&lt;img src=x onerror=alert(1)&gt;\)</l><d>$$&lt;script&gt;$$</d></p>"
    ),
}
WRITTEN_OUT = {
    **{"<m>": '<span class="math">', "</m>": "</span>"},
    **{"<l>": '<span class="math long"><span>', "</l>": "</span></span>"},
    **{"<d>": '<span class="math display"><span>', "</d>": "</span></span>"},
}


def written_out(drawn: str) -> str:
    for short, long in WRITTEN_OUT.items():
        drawn = drawn.replace(short, long)
    return drawn


async def test_formulas_are_shown_as_they_were_written(drawing: "Page"):
    drawn = await drawing.evaluate(DRAW, list(CASES))
    assert dict(zip(CASES, drawn, strict=True)) == {text: written_out(shown) for text, shown in CASES.items()}


async def test_a_formula_that_grew_is_drawn_as_one_that_came_whole(drawing: "Page"):
    assert await drawing.evaluate(GROW, [*CASES, "\n\n".join(CASES), "\n".join(CASES)]) == []


MARKS = [
    *("\\(", "\\)", "\\[", "\\]", "$$", "$", "\\\\", "^", "_", "*", "**", "`", "```\n", "a", "b ", "5", "  "),
    *("\n", "\n\n", "\n- ", "\n1. ", "\n> ", "# ", "| x |", "\n|---|\n"),
]


async def test_no_mix_of_marks_is_drawn_otherwise_while_it_grows(drawing: "Page"):
    mixed = random.Random(7)
    texts = ["".join(mixed.choices(MARKS, k=mixed.randint(3, 18))) for _ in range(1000)]
    assert await drawing.evaluate(GROW, texts) == []


STATES = """
async (texts) => {
  const {markdown} = await import('/playground/markdown.js')
  const unstable = []
  for (const [text, formula] of texts) {
    const root = document.createElement('div')
    const show = markdown(root)
    const from = text.indexOf(formula)
    for (let length = from + 2; length <= text.length; length++) {
      show(text.slice(0, length), {open: true})
      const shown = root.querySelector('.math')?.textContent
      const there = text.slice(from, Math.min(length, from + formula.length)).trimEnd()
      if (shown !== there || root.querySelector('em, ul, blockquote')) unstable.push([there, root.innerHTML])
    }
  }
  return unstable
}
"""


async def test_a_formula_stays_as_it_is_while_it_grows(drawing: "Page"):
    """At every length it shows as much of itself as has come."""
    formulas = [
        ("so \\(a_1*b*c_2\\) holds", "\\(a_1*b*c_2\\)"),
        ("Then\n\\[\na\n- b\n> *c*\n\\]\nfollows", "\\[\na\n- b\n> *c*\n\\]"),
        (
            "$$\n\\begin{cases}\na \\\\\n+ b\n\\end{cases}\n$$\n\nend",
            "$$\n\\begin{cases}\na \\\\\n+ b\n\\end{cases}\n$$",
        ),
        ("the $a*b*c$ of it", "$a*b*c$"),
    ]
    assert await drawing.evaluate(STATES, formulas) == []


PRICES = """
async (text) => {
  const {markdown} = await import('/playground/markdown.js')
  const root = document.createElement('div')
  const show = markdown(root)
  let taken = 0
  for (let length = 1; length <= text.length; length++) {
    show(text.slice(0, length), {open: true})
    taken += root.querySelectorAll('.math').length
  }
  return taken
}
"""


async def test_a_price_is_at_no_time_taken_for_a_formula(drawing: "Page"):
    assert await drawing.evaluate(PRICES, "It costs $5 and $6, or $7-$8.\n- Cheap: $$\n- Dear: $$$") == 0


TANGLES = (
    "\\(",
    "\\(\n",
    "\\[",
    "\\[\n",
    "\\[\n- a\n",
    "$",
    "$a ",
    "$$ ",
    "$$\n",
    "$$\n- a\n> b\n",
    "\\$",
    "$\\",
    "$x$",
    "`$$",
)


async def test_no_formula_keeps_the_page_busy(drawing: "Page"):
    """100 kB of anything, drawn twice: a fraction of a second as long as the work is linear in the text."""
    texts = [tangle * (100_000 // len(tangle)) for tangle in TANGLES]
    times: list[float] = await drawing.evaluate(TIME, texts)
    slow = {tangle: time for tangle, time in zip(TANGLES, times, strict=True) if time > 5000}
    assert slow == {}


async def test_an_answer_shows_its_formulas(page: Playground):
    """The demo quotes the question: from the browser through the gateway and back, not a backslash is lost."""
    turn = await page.answer(r"Is \(a^2 + b^2 = c^2\) or $x_1*y*z$ right, for $5 and $6?")
    await expect(turn.locator(".prose .math")).to_have_text([r"\(a^2 + b^2 = c^2\)", "$x_1*y*z$"])
    family = await turn.locator(".math").first.evaluate("(math) => getComputedStyle(math).fontFamily")
    assert "monospace" in family
