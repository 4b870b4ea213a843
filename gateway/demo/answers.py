"""The texts of the demo, and how a text becomes tokens.

The question only decides about the language of the answer and whether the answer contains code. The texts contain
Markdown, Chinese and emoji that a token may cut in two, because these break careless clients. Each text says that it
comes from a demo.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
         [ ]?[^\W\u3040-\u30ff\u4e00-\u9fff]{1,8} # a word with the blank before it; long words are cut
       | [\u3040-\u30ff\u4e00-\u9fff]{1,2}       # one or two Chinese or Japanese characters
       | \s{1,16}
       | [!-/:-@\[-`{-~]{1,3}                    # ASCII punctuation: ``` is one token
       | .                                       # any other code point, so joined emoji come in parts
    """,
    re.VERBOSE | re.DOTALL,
)


def cut(text: str) -> tuple[str, ...]:
    """The tokens of `text`. Joined, they give `text` again."""
    return tuple(_TOKEN.findall(text))


@dataclass(frozen=True, slots=True)
class Answer:
    """The first `length` tokens of `words`, which are repeated as often as needed. They are never held as one list."""

    words: tuple[str, ...]
    length: int

    def __iter__(self) -> Iterator[str]:
        return itertools.islice(itertools.cycle(self.words), self.length)

    def halves(self) -> tuple[Iterator[str], Iterator[str]]:
        """Two iterators over the same tokens: the first ends half way, and the second goes on from there."""
        words = iter(self)
        return itertools.islice(words, self.length // 2), words


def say(words: tuple[str, ...], length: int | None) -> Answer:
    """An answer of `length` tokens, or of all `words` if there is no `length`."""
    return Answer(words, len(words) if length is None else length)


def answer_to(question: str, length: int | None) -> Answer:
    quoted = " ".join(question[:_QUOTED].split()) + ("…" if len(question) > _QUOTED else "")
    before, after = next(text for pattern, text in _TEXTS if pattern.search(quoted))
    return say(before + cut(quoted) + after, length)


_QUOTED = 200  # characters of the question that an answer repeats; they also decide which text is chosen

_ENGLISH = """\
You asked:

> {question}

I am the **demo model** 👋 and I know nothing about it, to be honest: I am a handful of texts inside the gateway, \
cut into tokens and sent at the pace of a real model. What you see on the way is real, though:

- every token is an event of its own, written when it is due;
- a slow reader slows me down, and nobody else;
- ü, 中文, 😀 and 👩‍🚀 arrive whole, wherever a packet ends.

Ask me for *code*, ask in another language (比如：你是谁？), or try another model: `demo-reasoning` thinks aloud, \
`demo-flaky` fails and is rescued, and `demo-cut` hangs up half way. 🚀
"""

_ENGLISH_CODE = """\
You asked for code:

> {question}

I am only the **demo model**, so here is the same program whatever you ask. It reads a stream with nothing but \
the standard library:

```python
import json
import urllib.request

body = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
request = urllib.request.Request(
    "http://127.0.0.1:8080/v1/chat/completions",
    data=json.dumps(body).encode(),
    headers={"Content-Type": "application/json"},
)
with urllib.request.urlopen(request) as response:
    for line in response:
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                print(choice["delta"].get("content", ""), end="", flush=True)
```

How it works:

1. `stream: true` asks for events instead of one answer.
2. Each event is a line that starts with `data: `, and then an empty line.
3. The last one is `data: [DONE]`.

| Field | Where | Meaning |
|---|---|---|
| `delta.content` | every chunk | the next piece of text |
| `finish_reason` | the last choice | why it ended: `stop`, `length`, ... |
| `usage` | its own chunk | tokens, when asked for |

That is all of it. ✅
"""

_CHINESE = """\
你问的是：

> {question}

我是网关自带的**演示模型** 👋。说实话，这个问题我并不懂：我只是几段写好的文字，\
切成词元，按真实模型的速度逐个发送。不过，传输过程是真的：

- 每个词元都是一个独立的事件，到时间就写出；
- 读得慢的客户端只会让我变慢，不影响别人；
- 汉字、ü、😀 和 👩‍🚀 都会完整到达，不管数据包在哪里断开。

你可以让我写一段*代码*，也可以换一个模型：`demo-reasoning` 会先说出思考过程，\
`demo-flaky` 会失败并得到救援，`demo-cut` 说到一半就断线。🚀
"""

_CHINESE_CODE = """\
你想看代码：

> {question}

我只是**演示模型**，所以无论问什么，给出的都是同一段程序。在浏览器里读取流式回答：

```js
const source = new EventSource('/chat?q=' + encodeURIComponent('你好'))
let answer = ''
source.addEventListener('message', (event) => { answer += event.data })
source.addEventListener('end', () => source.close())
```

说明：

1. `EventSource` 建立连接，断线后自动重连。
2. 每个 `message` 事件带来一小段文字。
3. 收到 `end` 事件后关闭连接。

| 事件 | 含义 |
|---|---|
| `message` | 下一段文字 |
| `failure` | 出错了 |
| `end` | 回答结束 |

就这么简单。✅
"""

_GREETING = """\
Hello! 👋 I am the **demo model** of this gateway: no key, no network, no knowledge. You said “{question}”, and \
this answer comes to you token by token, just as a real one would. Ask me for code, or ask me anything. 😊
"""


def _compiled(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tokens before and after the question. They are cut at import, so a request only cuts the question."""
    before, _, after = text.partition("{question}")
    return cut(before), cut(after)


_TEXTS = tuple(
    (re.compile(pattern, re.IGNORECASE), _compiled(text))
    for pattern, text in (  # the first pattern that matches decides
        (r"(?=.*[\u4e00-\u9fff]).*(代码|程序|函数|脚本|编程|code|python)", _CHINESE_CODE),
        (r"[\u4e00-\u9fff]", _CHINESE),
        (r"\b(code|python|javascript|function|program|script|regex|sql|bash)\b", _ENGLISH_CODE),
        (r"^(hi|hello|hey|good (morning|evening)|who are you)\b", _GREETING),
        (r"", _ENGLISH),
    )
)

THOUGHTS = cut(
    "The person wants an answer. First, what do I know? Nothing: I am a demo. 🤔 "
    "So the honest thing is to say so, to show what a stream looks like, and to be brief about it. 好，开始回答。\n"
)
REFUSAL = cut("I'm sorry, but I can't help with that: refusing is all that the model demo-refusal does. 🙅")
