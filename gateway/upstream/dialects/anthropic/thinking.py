"""What `reasoning_effort` becomes for a model of Anthropic's, which is asked to think in one of two ways.

Models up to 4.6 take a budget of tokens, which is a part of `max_tokens`. Later ones refuse a budget: they decide
themselves how much to think, at an effort, and show no thoughts without `display`. The server answers 400 to the wrong
way, and only 4.6 knows both, so the name of the model has to tell which one it is.

The models that take a budget are a closed set, and new ones are not among them. So a name with `claude` in it that has
none of their versions, or no version at all, is asked in the newer way. Other names are models of other servers with
Anthropic's API, which know the older way. The upstream's option `thinking` outranks all of this.
"""

import re
from typing import Any

from gateway.config import Thinking

Object = dict[str, Any]

_FAMILY = "claude"
# `claude-opus-4-8`, `claude-3.5-haiku`, `claude-sonnet-4-20250514`: what has more than two digits is a date.
_VERSION = re.compile(_FAMILY + r"[-_.](?:[a-z]+[-_.])?(\d{1,2})(?:[-_.](\d{1,2}))?(?!\d)")
_LAST_WITH_BUDGET = (4, 6)

_BUDGETS = {"low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 32_768}  # tokens
_LEAST_BUDGET = 1024  # tokens, by Anthropic's documents
_ROOM = 1024  # tokens for the answer behind the thoughts: the budget is a part of `max_tokens`
# By those of OpenAI, whose lowest one Anthropic's server refuses. Any other one, such as `none`, asks for no thinking.
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_ADAPTIVE = {"type": "adaptive", "display": "summarized"}


def way_of(model: str) -> Thinking:
    """How a model of this name is asked, with any words of a vendor before or behind the name."""
    name = model.lower()
    if _FAMILY not in name:
        return Thinking.BUDGET
    version = _VERSION.search(name)
    is_older = version is not None and (int(version[1]), int(version[2] or 0)) <= _LAST_WITH_BUDGET
    return Thinking.BUDGET if is_older else Thinking.ADAPTIVE


def with_effort(effort: str, output: Object, *, may_think: bool) -> Object:
    """The fields for the newer way. `output` is what the caller said of `output_config`, also of its effort."""
    if effort not in _EFFORTS:
        return {}
    found: Object = {"output_config": {"effort": _EFFORTS[effort], **output}}
    return {**found, "thinking": _ADAPTIVE} if may_think else found


def with_budget(effort: str, bound: int | None, default: int) -> Object:
    """The fields for the older way. A request without a bound gets the default for its answer, beside the budget."""
    budget = _BUDGETS.get(effort, 0)
    if bound is not None:
        budget = min(budget, bound - _ROOM)
    if budget < _LEAST_BUDGET:
        return {}
    most = default + budget if bound is None else bound
    return {"thinking": {"type": "enabled", "budget_tokens": budget}, "max_tokens": most}
