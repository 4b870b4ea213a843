"""Texts and tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.answers import answer_to, cut


def words(question: str, length: int | None = None) -> str:
    return "".join(answer_to(question, length))


@given(st.text())
def test_tokens_joined_are_the_text(text):
    assert "".join(cut(text)) == text


@given(st.text())
def test_any_question_has_an_answer(question):
    assert words(question)


def test_a_token_is_a_word_or_a_part_of_one():
    assert cut("Hello wonderful world!") == ("Hello", " wonderfu", "l", " world", "!")


def test_chinese_is_cut_by_one_or_two_characters_and_emoji_by_code_point():
    assert cut("你好吗👩‍🚀") == ("你好", "吗", "👩", "\u200d", "🚀")


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("What is the sea?", "> What is the sea?"),
        ("Hello", "“Hello”"),
        ("Who are you?", "demo model"),
        ("Write a function in Python", "```python\n"),
        ("你是谁？", "演示模型"),
        ("写一段代码", "```js\n"),
        ("用 Python 写", "```js\n"),
        ("", "demo model"),
        ("a {question} with {braces}", "> a {question} with {braces}"),
        ("two\nlines", "> two lines"),
    ],
)
def test_an_answer_fits_its_question(question, says):
    assert says in words(question)


@pytest.mark.parametrize("question", ["Some code, please", "一段代码"])
def test_an_answer_about_code_has_a_block_a_list_and_a_table(question):
    answer = words(question)
    assert answer.count("```") == 2
    assert "\n1. " in answer
    assert "\n|---|" in answer


def test_a_long_question_is_quoted_in_part():
    assert len(words("x" * 100_000)) < 2_000


@pytest.mark.parametrize("length", [1, 2, 7, 5_000])
def test_a_length_is_kept_to_the_token(length):
    assert len(list(answer_to("Hello", length))) == length


def test_a_huge_answer_is_never_held_as_a_list():
    halves = answer_to("Hello", 10**12).halves()
    assert [next(half) for half in halves] == ["Hello", "!"]


def test_halves_are_the_whole():
    first, second = answer_to("Hello", 5).halves()
    assert [*first, *second] == list(answer_to("Hello", 5))
