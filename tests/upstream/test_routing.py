"""Which target answers for a model name."""

import pytest

from gateway.config import Api, Config, Dialect, Model, TargetName, Timeouts, Upstream
from gateway.endpoints import CHATS, Endpoint
from gateway.errors import InvalidRequest, ModelNotFound
from gateway.upstream.routing import Route, Target, default_model, longest_answer, route, whole_upstream

FIRST, SECOND = Upstream("first", "http://first/v1"), Upstream("second", "http://second/v1")
ANY = Config(upstreams=[FIRST, SECOND])
NAMED = Config(
    upstreams=[FIRST, SECOND],
    models=[Model("small", [TargetName("second", "qwen2.5:3b")]), Model("large", [TargetName("first")])],
)
DEFAULTS = Timeouts(5.0, 120.0, 60.0, 600.0)


def with_default(config: Config, name: str) -> Config:
    return Config(upstreams=config.upstreams, models=config.models, default_model=name)


@pytest.mark.parametrize(
    ("config", "name", "target"),
    [
        (ANY, "m", Target(FIRST, "m", DEFAULTS, is_named=False)),
        (ANY, "Org/Model:tag é", Target(FIRST, "Org/Model:tag é", DEFAULTS, is_named=False)),
        (with_default(ANY, "d"), None, Target(FIRST, "d", DEFAULTS, is_named=False)),
        (with_default(ANY, "d"), "", Target(FIRST, "d", DEFAULTS, is_named=False)),
        (with_default(ANY, "d"), "m", Target(FIRST, "m", DEFAULTS, is_named=False)),
        (NAMED, "small", Target(SECOND, "qwen2.5:3b", DEFAULTS)),
        (NAMED, "large", Target(FIRST, "large", DEFAULTS)),
        (NAMED, None, Target(SECOND, "qwen2.5:3b", DEFAULTS)),
        (with_default(NAMED, "large"), None, Target(SECOND, "qwen2.5:3b", DEFAULTS)),
    ],
)
def test_targets(config: Config, name: str | None, target: Target) -> None:
    """Without [[models]] any name goes to the first upstream unchanged; with them, the first of them is the default."""
    assert route(config, name).targets == (target,)


@pytest.mark.parametrize("name", ["qwen2.5:3b", "SMALL", "small ", "m"])
def test_with_models_only_their_names_exist(name: str) -> None:
    """What an upstream calls a model is not one of them."""
    with pytest.raises(ModelNotFound, match=r"Try one of: small, large\.$") as raised:
        route(NAMED, name)
    assert (raised.value.status, raised.value.code, raised.value.param) == (404, "model_not_found", "model")


def test_the_names_that_are_told_are_so_many() -> None:
    names = [f"m{n:02}" for n in range(50)]
    config = Config(upstreams=[FIRST], models=[Model(name, [TargetName("first")]) for name in names])
    with pytest.raises(ModelNotFound) as raised:
        route(config, "x")
    assert "m19." in raised.value.message
    assert "m20" not in raised.value.message


def test_without_a_model_and_a_default_it_says_so() -> None:
    with pytest.raises(InvalidRequest, match="Name a `model`") as raised:
        route(ANY, None)
    assert (raised.value.status, raised.value.code, raised.value.param) == (400, "model_missing", "model")


@pytest.mark.parametrize(
    ("config", "name"),
    [(ANY, None), (with_default(ANY, "d"), "d"), (NAMED, "small"), (with_default(NAMED, "d"), "small")],
)
def test_the_default(config: Config, name: str | None) -> None:
    assert default_model(config) == name


VALUES = Config(
    upstreams=[FIRST],
    models=[
        Model("talks", [TargetName("first")], endpoints=[Endpoint.CHAT, Endpoint.MESSAGES]),
        Model("embeds", [TargetName("first")], endpoints=[Endpoint.EMBEDDINGS]),
        Model("all", [TargetName("first")]),
    ],
)


@pytest.mark.parametrize(
    ("config", "endpoint", "name"),
    [
        (VALUES, Endpoint.CHAT, "talks"),
        (VALUES, Endpoint.MESSAGES, "talks"),
        (VALUES, Endpoint.RESPONSES, "all"),
        (VALUES, Endpoint.EMBEDDINGS, "embeds"),
        (VALUES, Endpoint.RERANK, "all"),
        (Config(upstreams=[FIRST], models=VALUES.models[:1]), Endpoint.RERANK, "talks"),
        (with_default(ANY, "d"), Endpoint.COMPLETIONS, "d"),
        (with_default(ANY, "d"), Endpoint.MODERATIONS, ""),
        (ANY, Endpoint.EMBEDDINGS, None),
    ],
)
def test_the_default_of_each_endpoint(config: Config, endpoint: Endpoint, name: str | None) -> None:
    """The first model that has it. Where none has, the first one, whose endpoints the error then tells."""
    assert default_model(config, endpoint) == name


@pytest.mark.parametrize("endpoint", Endpoint)
def test_an_upstream_that_makes_responses_is_asked_for_them(endpoint: Endpoint) -> None:
    """For all else, it is asked as any other."""
    maker = Upstream("first", "http://first/v1", api=Api.RESPONSES)
    asked = Endpoint.RESPONSES if endpoint is Endpoint.RESPONSES else endpoint.asked_as
    for config in (Config(upstreams=[maker]), Config(upstreams=[maker], models=[Model("m", [TargetName("first")])])):
        found = route(config, "m", endpoint)
        assert found.endpoint is found.targets[0].endpoint is asked


def test_the_targets_at_one_upstream() -> None:
    found = Route(tuple([Target(upstream, "m", Timeouts()) for upstream in (FIRST, SECOND, FIRST)]))
    assert [target.upstream for target in found.at("first").targets] == [FIRST, FIRST]
    assert found.at("third").targets == ()


def test_an_upstream_apart_from_its_models() -> None:
    config = Config(upstreams=[FIRST, Upstream("slow", "http://slow/v1", timeouts=Timeouts(total=9))])
    found = whole_upstream(config, "slow", Endpoint.RESPONSES)
    assert found is not None
    assert (found.key, found.timeouts.total, found.timeouts.connect) == ("slow (responses)", 9, 5)
    assert whole_upstream(config, "third", Endpoint.RESPONSES) is None


@pytest.mark.parametrize("endpoint", Endpoint)
def test_each_endpoint_has_targets_with_a_state_of_their_own(endpoint: Endpoint) -> None:
    (target,) = route(VALUES, "all", endpoint).targets
    assert target.endpoint is endpoint.asked_as
    assert target.name == "first/all"
    assert target.key == ("first/all" if target.endpoint is Endpoint.CHAT else f"first/all ({endpoint})")
    assert route(VALUES, "all", endpoint) is route(VALUES, "all", endpoint)
    (unnamed,) = route(ANY, "m", endpoint).targets
    assert unnamed.key == target.key.replace("first/all", "first")


def test_targets_are_asked_only_where_their_dialect_has_the_endpoint() -> None:
    claude = Upstream("claude", "http://claude/v1", dialect=Dialect.ANTHROPIC)
    both, one = Model("both", [TargetName("claude"), TargetName("first")]), Model("one", [TargetName("claude")])
    config = Config(upstreams=[claude, FIRST], models=[both, one])
    assert [target.upstream.name for target in route(config, "both").targets] == ["claude", "first"]
    assert [target.upstream.name for target in route(config, "both", Endpoint.EMBEDDINGS).targets] == ["first"]
    assert list(route(config, "both").endpoints) == list(Endpoint)
    assert list(route(config, "one", Endpoint.EMBEDDINGS).endpoints) == list(CHATS)
    assert list(route(Config(upstreams=[claude]), "any").endpoints) == list(CHATS)


def test_the_endpoints_of_a_route_are_those_of_its_model() -> None:
    assert list(route(VALUES, "embeds", Endpoint.CHAT).endpoints) == [Endpoint.EMBEDDINGS]
    assert list(route(ANY, "m").endpoints) == list(Endpoint)


def test_the_narrowest_place_decides_on_each_timeout() -> None:
    """The model, then its upstream, then [timeouts], then what is there without being said."""
    upstream = Upstream("up", "http://up", timeouts=Timeouts(first_token=20.0, idle=20.0))
    config = Config(
        timeouts=Timeouts(first_token=10.0, idle=10.0, total=10.0),
        upstreams=[upstream],
        models=[Model("m", [TargetName("up")], timeouts=Timeouts(idle=30.0))],
    )
    assert route(config, "m").targets[0].timeouts == Timeouts(connect=5.0, first_token=20.0, idle=30.0, total=10.0)
    without_models = Config(timeouts=config.timeouts, upstreams=[upstream])
    assert route(without_models, "m").targets[0].timeouts == Timeouts(
        connect=5.0, first_token=20.0, idle=20.0, total=10.0
    )


@pytest.mark.parametrize(
    ("everywhere", "upstream", "model", "seconds"),
    [(None, None, None, 600), (60, None, None, 60), (60, 90, None, 90), (60, 90, 120, 120), (60, 30, 30, 60)],
)
def test_the_longest_answer(
    everywhere: float | None, upstream: float | None, model: float | None, seconds: float
) -> None:
    config = Config(
        upstreams=[FIRST, Upstream("slow", "http://slow/v1", timeouts=Timeouts(total=upstream))],
        models=[Model("m", [TargetName("slow")], timeouts=Timeouts(total=model))],
        timeouts=Timeouts(total=everywhere),
    )
    assert longest_answer(config) == seconds


@pytest.mark.parametrize("config", [ANY, NAMED])
def test_answers_of_one_configuration_share_a_route(config: Config) -> None:
    changed = Config(upstreams=[FIRST], models=config.models[1:], timeouts=Timeouts(total=1.0))
    own = route(config, "large")
    assert route(config, "large") is own
    assert route(changed, "large").targets[0].timeouts.total == 1.0
    assert route(config, "large") == own


def test_what_callers_invent_is_remembered_within_bounds() -> None:
    long = "m" * 257
    assert route(ANY, long) is not route(ANY, long)
    first = route(ANY, "0")
    for number in range(1, 501):
        route(ANY, str(number))
    assert route(ANY, "0") is not first
