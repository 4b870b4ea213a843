"""From a file and the environment to a configuration, or to everything that is wrong with them."""

import re
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import astuple

from gateway.config import (
    DEFAULT_TIMEOUTS,
    Assistant,
    BreakerLimits,
    Budget,
    Config,
    Faults,
    Key,
    Model,
    Per,
    Prices,
    Retry,
    Secret,
    Server,
    Store,
    Stream,
    TargetName,
    Timeouts,
    Traces,
    Upstream,
    checked,
    described,
    is_loopback,
    load,
)
from gateway.endpoints import Endpoint

UPSTREAM = '[[upstreams]]\nname = "up"\nbase_url = "http://h/v1"\n'


def faults(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(Faults) as raised:
        load(text, environ or {})
    assert str(raised.value) == "\n".join(raised.value.faults)
    return raised.value.faults


# What is there without being said


def test_nothing_at_all_is_a_configuration() -> None:
    assert load("", {}) == Config()


def test_the_defaults() -> None:
    """Promised in the documents: to change one is to change what users have."""
    config = load("", {})
    assert astuple(config.server) == (
        "127.0.0.1",
        8080,
        None,
        1_048_576,
        [],
        ["127.0.0.1", "::1"],
        False,
        True,
        30.0,
        5000,
        134_217_728,
        None,
        1,
    )
    assert astuple(config.stream) == (15.0, 2000, 300.0, 60.0, 8_388_608, 1_048_576, "detach", 30.0, 1000)
    assert astuple(config.store) == (Secret("memory://"), "gateway:", 268_435_456, 20_000)
    assert astuple(config.retry) == (3, 0.5, 20.0)
    assert astuple(config.breaker) == (5, 15.0)
    assert astuple(config.traces) == (None, {}, 1.0, "gateway", False)
    assert astuple(DEFAULT_TIMEOUTS) == (5.0, 120.0, 60.0, 600.0)
    assert load(UPSTREAM, {}).upstreams[0].stream_usage
    assert load(UPSTREAM, {}).upstreams[0].api == "chat"
    assert load(UPSTREAM, {}).upstreams[0].max_tokens_field == "max_tokens"
    assert load(UPSTREAM, {}).upstreams[0].thinking is None
    assert load(UPSTREAM + model("m", "up"), {}).models[0].endpoints == list(Endpoint)


@pytest.mark.parametrize(
    ("environ", "base_url", "key"),
    [
        ({"OPENAI_API_KEY": "k"}, "https://api.openai.com/v1", "k"),
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://h/v1"}, "http://h/v1", "k"),
        ({"OPENAI_BASE_URL": "http://h/v1"}, "http://h/v1", None),
        ({"OPENAI_BASE_URL": "http://h/v1", "OPENAI_API_KEY": ""}, "http://h/v1", None),
    ],
)
def test_the_environment_alone_is_enough(environ: dict[str, str], base_url: str, key: str | None) -> None:
    (upstream,) = load("", environ).upstreams
    assert (upstream.name, upstream.base_url) == ("openai", base_url)
    assert (upstream.api_key.reveal() if upstream.api_key else None) == key


def test_upstreams_of_the_file_outrank_the_environment() -> None:
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://other/v1", "OPENAI_MODEL": "m"}
    config = load(UPSTREAM, environ)
    assert [upstream.base_url for upstream in config.upstreams] == ["http://h/v1"]
    assert config.default_model == "m"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("", "http://collector:4318"),
        ('[traces]\nservice_name = "chat"', "http://collector:4318"),
        ('[traces]\nendpoint = "http://other:4318"', "http://other:4318"),
    ],
)
def test_the_endpoint_of_traces_may_come_from_the_environment(text: str, endpoint: str) -> None:
    assert load(text, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}).traces.endpoint == endpoint
    assert load("", {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}).traces.endpoint is None
    (fault,) = faults("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"})
    assert fault.startswith("traces.endpoint: ")


def test_an_empty_model_in_the_environment_is_none() -> None:
    assert load("", {"OPENAI_MODEL": ""}).default_model is None


@pytest.mark.parametrize("text", ["", "[server]\nport = 80"])
def test_a_fault_in_the_environment_names_the_variable(text: str) -> None:
    """Without `[[upstreams]]` in a file, nobody knows an `upstreams[0]`."""
    found = faults(text, {"OPENAI_BASE_URL": "localhost:8000", "OPENAI_API_KEY": "k\n"})
    assert [fault.partition(":")[0] for fault in found] == ["OPENAI_BASE_URL", "OPENAI_API_KEY"]
    (fault,) = faults(UPSTREAM.replace("http", "ftp"), {"OPENAI_BASE_URL": "http://h/v1"})
    assert fault.startswith("upstreams[0].base_url:")


def test_blanks_around_a_base_url_are_left_out() -> None:
    environ = {"OPENAI_BASE_URL": " http://h/v1\r\n"}
    assert load("", environ).upstreams[0].base_url == "http://h/v1"
    assert load(UPSTREAM.replace("/v1", "/v1 "), {}).upstreams[0].base_url == "http://h/v1"


# What is filled in


def test_names_are_filled_in_from_the_environment() -> None:
    """In the middle of a string, twice, in lists and tables; not again in what was filled in."""
    config = load(
        '[server]\ncors_origins = ["https://${HOST}"]\n'
        '[[upstreams]]\nname = "${A}-${A}"\nbase_url = "http://${HOST}:1/v1"\nheaders = {x = "${B}"}',
        {"HOST": "h", "A": "a", "B": "${A}"},
    )
    assert config.server.cors_origins == ["https://h"]
    assert (config.upstreams[0].name, config.upstreams[0].base_url) == ("a-a", "http://h:1/v1")
    assert config.upstreams[0].headers["x"].reveal() == "${A}"


@pytest.mark.parametrize("text", ["$A", "${}", "{A}", "A}", "$$", "${A B}"])
def test_what_only_looks_like_a_name_stays(text: str) -> None:
    config = load(UPSTREAM + f"headers = {{x = '{text}'}}", {})
    assert config.upstreams[0].headers["x"].reveal() == text


@pytest.mark.parametrize("text", ["${A", "$${", "${A and ${B}", "${A${B}", "${B} and ${"])
def test_a_name_without_its_end_is_refused(text: str) -> None:
    """A server would get it literally, as a key."""
    (fault,) = faults(UPSTREAM + f"api_key = '{text}'", {"A": "a", "B": "b"})
    assert fault == "upstreams[0].api_key: `${` without `}`; write ${NAME} for the environment variable NAME"


def test_an_assistant_is_left_as_it_is() -> None:
    """Prompts and parameters are the model's to read, and may be about shells."""
    config = load('[assistants.a]\nsystem = ["Say ${NAME}."]\nparameters = {stop = "${NAME}"}', {"NAME": "x"})
    assert config.assistants["a"].system == ["Say ${NAME}."]
    assert config.assistants["a"].parameters == {"stop": "${NAME}"}


# What is wrong

UNSET = "the environment variable NOT_SET is not set"

FAULTS = {
    "not TOML": ("[server", ["not valid TOML: "]),
    "an unknown table": ("[sever]\nport = 1", ["sever: unknown key"]),
    "an unknown key": ("[server]\nprot = 1", ["server.prot: unknown key"]),
    "an unknown key in a list": (UPSTREAM + "key = 1", ["upstreams[0].key: unknown key"]),
    "an unknown key in a target": (
        UPSTREAM + '[[models]]\nname = "m"\ntargets = [{upstream = "up", weights = 1}]',
        ["models[0].targets[0].weights: unknown key; did you mean weight?"],
    ),
    "a name that only the code has": ('default_model = "m"', ["default_model: unknown key"]),
    "a missing key": ("[[upstreams]]", ["upstreams[0].name: missing", "upstreams[0].base_url: missing"]),
    "a missing key of a second one": (UPSTREAM + "[[models]]\nname = 'm'", ["models[0].targets: missing"]),
    "a wrong type": ('[server]\nport = "80"', ["server.port: expected an integer, got a string"]),
    "a truth for a number": ("[server]\nport = true", ["server.port: expected an integer, got a boolean"]),
    "a number for a truth": (
        "[server]\nallow_anonymous = 1",
        ["server.allow_anonymous: expected a boolean, got an integer"],
    ),
    "a fraction of a byte": ("[store]\nmax_bytes = 5000.5", ["store.max_bytes: expected an integer, got a number"]),
    "a value for a table": ("server = 1", ["server: expected a table, got an integer"]),
    "a table for a list": ("[upstreams]\nname = 'up'", ["upstreams: write [[upstreams]], with two brackets"]),
    "a table for a list of models": ("[models]\nname = 'm'", ["models: write [[models]], with two brackets"]),
    "a table for a list of keys": ("[keys]\nname = 'k'", ["keys: write [[keys]], with two brackets"]),
    "two tables for a list": ("[keys]\na = 1\n[keys]\na = 2", ["not valid TOML: Cannot declare ('keys',) twice"]),
    "a table for a list in a table": (
        UPSTREAM + '[[models]]\nname = "m"\ntargets = {upstream = "up"}',
        ["models[0].targets: expected a list; write [{...}]"],
    ),
    "a text for a list": ('[assistants.a]\nsystem = "hi"', ['assistants.a.system: expected a list; write ["hi"]']),
    "a long text for a list": (
        f'[server]\ncors_origins = "{"x" * 41}"',
        ['server.cors_origins: expected a list; write ["..."]'],
    ),
    "a number for a list": ("[assistants.a]\nsystem = 1", ["assistants.a.system: expected a list, got an integer"]),
    "a value that is none of a few": (
        '[stream]\non_disconnect = "stop"',
        ["stream.on_disconnect: expected one of cancel, drain, detach"],
    ),
    "a value that is none of a few, in a list": (
        f'[[keys]]\nname = "k"\nhash = "sha256:{"0f" * 32}"\non_disconnect = ["stop"]',
        ["keys[0].on_disconnect[0]: expected one of cancel, drain, detach"],
    ),
    "an API that does not exist": (
        UPSTREAM + 'api = "completions"',
        ["upstreams[0].api: expected one of chat, responses"],
    ),
    "an endpoint that does not exist": (
        UPSTREAM + '[[models]]\nname = "m"\ntargets = [{upstream = "up"}]\nendpoints = ["embeddings", "chat"]',
        [
            "models[0].endpoints[1]: expected one of chat/completions, responses, messages, embeddings, completions, "
            "moderations, rerank"
        ],
    ),
    "a text for endpoints": (
        UPSTREAM + '[[models]]\nname = "m"\ntargets = [{upstream = "up"}]\nendpoints = "embeddings"',
        ['models[0].endpoints: expected a list; write ["embeddings"]'],
    ),
    "a date that does not exist": (
        f'[[keys]]\nname = "k"\nhash = "sha256:{"0f" * 32}"\nexpires = "2027-13-31"',
        ["keys[0].expires: expected a date, such as 2027-12-31"],
    ),
    "a similar key": ("[server]\nprot = 1", ["server.prot: unknown key; did you mean port?"]),
    "a similar table": ("[sever]\nport = 1", ["sever: unknown key; did you mean server?"]),
    "a key like no other": ("[server]\nqqq = 1", ["server.qqq: unknown key"]),
    "a value in a list of tables": ("upstreams = [1]", ["upstreams[0]: expected a table, got an integer"]),
    "a value for an assistant": ("[assistants]\na = 1", ["assistants.a: expected a table, got an integer"]),
    "a value in a list of strings": (
        "[server]\ncors_origins = [1]",
        ["server.cors_origins[0]: expected a string, got an integer"],
    ),
    "a port that is none": ("[server]\nport = 65536", ["server.port: expected an integer <= 65535"]),
    "no time": ("[timeouts]\nidle = 0", ["timeouts.idle: expected a number > 0.0"]),
    "too much time": ("[timeouts]\nidle = 86401", ["timeouts.idle: expected a number <= 86400.0"]),
    "NaN": ("[timeouts]\nidle = nan", ["timeouts.idle: expected a number > 0.0"]),
    "infinity": ("[timeouts]\nidle = inf", ["timeouts.idle: expected a number <= 86400.0"]),
    "a time in a table in a list": (
        UPSTREAM + "timeouts = {idle = -1}",
        ["upstreams[0].timeouts.idle: expected a number > 0.0"],
    ),
    "a retry that is negative": ("[stream]\nretry_ms = -1", ["stream.retry_ms: expected an integer >= 0"]),
    "too few bytes": ("[stream]\nmax_event_bytes = 1023", ["stream.max_event_bytes: expected an integer >= 1024"]),
    "no store": ('[store]\nurl = "http://localhost"', ["store.url: expected memory://, or redis(s)://"]),
    "no host of a store": ('[store]\nurl = "redis://:6379/0"', ["store.url: expected memory://, or redis(s)://"]),
    "a prefix with a brace": ('[store]\nprefix = "a{b"', ["store.prefix: expected 1 to 64 printable"]),
    "no streams": ("[store]\nmax_streams = 0", ["store.max_streams: expected an integer >= 1"]),
    "an empty name": (
        '[[models]]\nname = ""\ntargets = [{upstream = "a"}]\n[[upstreams]]\nname = "a"\nbase_url = "http://h"',
        ["models[0].name: expected 1 to 200 characters without line ends"],
    ),
    "a name with a line end": (
        '[[models]]\nname = "a\\n"\ntargets = []',
        ["models[0].name: expected 1 to 200 characters without line ends", "models[0].targets: expected at least one"],
    ),
    "a key without a name": (f'[[keys]]\nhash = "sha256:{"0f" * 32}"', ["keys[0].name: missing"]),
    "a key's name with a line end": (
        f'[[keys]]\nname = "a\\n"\nhash = "sha256:{"0f" * 32}"',
        ["keys[0].name: expected 1 to 200 characters without line ends"],
    ),
    "limits that let nobody in": (
        f'[[keys]]\nname = "k"\nhash = "sha256:{"0f" * 32}"\n'
        "requests_per_minute = 0\ntokens_per_minute = -1\nmax_streams = 0.5",
        [
            "keys[0].requests_per_minute: expected an integer >= 1",
            "keys[0].tokens_per_minute: expected an integer >= 1",
            "keys[0].max_streams: expected an integer, got a number",
        ],
    ),
    "a last day that is none": (
        f'[[keys]]\nname = "k"\nhash = "sha256:{"0f" * 32}"\nexpires = 2026',
        ["keys[0].expires: expected a date, such as 2027-12-31"],
    ),
    "a key that is a number": ('[[keys]]\nname = "k"\nkey = 1234567890123456', ["keys[0].key: expected a string"]),
    "a variable of a key": ('[[keys]]\nname = "k"\nkey = "${NOT_SET}"', [f"keys[0].key: {UNSET}"]),
    "a price below nothing": (
        UPSTREAM + '[[models]]\nname = "m"\ntargets = [{upstream = "up"}]\nprices = {input = -1, output = 0}',
        ["models[0].prices.input: expected a number >= 0.0"],
    ),
    "half the prices": (
        UPSTREAM + '[[models]]\nname = "m"\ntargets = [{upstream = "up"}]\nprices = {input = 1}',
        ["models[0].prices.output: missing"],
    ),
    "prices that are no numbers": (
        UPSTREAM
        + '[[models]]\nname = "m"\ntargets = [{upstream = "up"}]\nprices = {input = "1", output = nan, cached = true}',
        [
            "models[0].prices.input: expected a number, got a string",
            "models[0].prices.output: expected a number >= 0.0",
            "models[0].prices.cached: expected a number, got a boolean",
        ],
    ),
    "limits of a public assistant": (
        "[assistants.a]\npublic = 1\nrequests_per_minute = 0\nmax_streams = 0\nmax_tokens = 0",
        [
            "assistants.a.public: expected a boolean, got an integer",
            "assistants.a.requests_per_minute: expected an integer >= 1",
            "assistants.a.max_streams: expected an integer >= 1",
            "assistants.a.max_tokens: expected an integer >= 1",
        ],
    ),
    "a secret that is no string": (UPSTREAM + "api_key = 1", ["upstreams[0].api_key: expected a string"]),
    "a field that is no string": (UPSTREAM + "headers = {x = 1}", ["upstreams[0].headers.x: expected a string"]),
    "a variable that is not set": (UPSTREAM + 'api_key = "${NOT_SET}"', [f"upstreams[0].api_key: {UNSET}"]),
    "a variable in a list": ('[server]\ncors_origins = ["${NOT_SET}"]', [f"server.cors_origins[0]: {UNSET}"]),
    "YAML": ("# ours\nupstreams:\n  - name: a\n", ["this looks like YAML, but the configuration is TOML"]),
    "YAML with a mark": ("---\nserver: {port: 1}\n", ["this looks like YAML, but the configuration is TOML"]),
    "JSON": ('{"server": {"port": 1}}', ["this looks like JSON, but the configuration is TOML"]),
    "TOML with a mistake": ("[server]\nport: 1", ["not valid TOML: "]),
    "all at once, in one go": (
        '[server]\nport = "x"\nprot = 1\n[stream]\nretry_ms = -1\n[[upstreams]]\nname = 1\napi_key = "${NOT_SET}"\n'
        "[[models]]\ntargets = [{}]\n[assistants.a]\nsystem = 1",
        [
            f"upstreams[0].api_key: {UNSET}",
            "server.prot: unknown key",
            "server.port: expected an integer, got a string",
            "stream.retry_ms: expected an integer >= 0",
            "upstreams[0].base_url: missing",
            "upstreams[0].name: expected a string, got an integer",
            "models[0].name: missing",
            "models[0].targets[0].upstream: missing",
            "assistants.a.system: expected a list, got an integer",
        ],
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_every_fault_is_told_with_its_path(case: str) -> None:
    """All of one go: who mends one per start has a bad evening."""
    text, expected = FAULTS[case]
    found = faults(text)
    assert len(found) == len(expected)
    assert all(fault.startswith(start) for fault, start in zip(found, expected, strict=True)), found


# What tomllib refuses -> what to write instead
SYNTAX = {
    'ca = "C:\\Users\\ca.pem"': "write a text with backslashes in single quotes",
    'ca = "C:\\Program"': "write a text with backslashes in single quotes",
    "[server]\nhost = localhost": 'write a text in straight quotes, such as host = "localhost"',
    "host = 127.0.0.1": "write a text in straight quotes",
    "host = “localhost”": "write a text in straight quotes",
    "key = ${NAME}": "write a text in straight quotes",
    "expires = 2027-13-31": "write a date that exists, such as 2027-12-31",
    "expires = 2027-02-30": "write a date that exists, such as 2027-12-31",
    "playground = False": "write false",
    "[keys]\na = 1\n\n[keys]\na = 2": "write [[keys]], with two brackets",
}


@pytest.mark.parametrize("text", SYNTAX)
def test_common_mistakes_of_syntax_are_told_with_what_to_write(text: str) -> None:
    (fault,) = faults(text)
    assert fault.startswith("not valid TOML: ")
    assert f"; {SYNTAX[text]}" in fault


@pytest.mark.parametrize("text", ['a = "x', "= 1", "[server\nport = 1", "[a]\n[a]", "[server]\nport: 1"])
def test_other_mistakes_of_syntax_get_no_advice(text: str) -> None:
    (fault,) = faults(text)
    assert ";" not in fault


def model(name: str, *targets: str) -> str:
    return f'[[models]]\nname = "{name}"\ntargets = [{", ".join(f"{{upstream = {t!r}}}" for t in targets)}]\n'


KEY = '[[keys]]\nname = "k"\n'
PRICED = '[[models]]\nname = "m"\ntargets = [{upstream = "up"}]\nprices = {input = 1, output = 2}\n'
HASH = f"sha256:{'0f' * 32}"
SIXTEEN = "0123456789abcdef"

RULES = {
    "an address others reach": (
        '[server]\nhost = "0.0.0.0"',
        "server.host: 0.0.0.0 can be reached from other machines",
    ),
    "every address": ('[server]\nhost = ""', "server.host:"),
    "every address, IPv6": ('[server]\nhost = "::"', "server.host:"),
    "a name": ('[server]\nhost = "gateway.example"', "server.host:"),
    "a URL without a scheme": (UPSTREAM.replace("http://", ""), "upstreams[0].base_url:"),
    "a URL of another scheme": (UPSTREAM.replace("http", "ftp"), "upstreams[0].base_url:"),
    "a URL without a host": (UPSTREAM.replace("//h", "//"), "upstreams[0].base_url:"),
    "a URL with a query": (UPSTREAM.replace("/v1", "/v1?a=b"), "upstreams[0].base_url:"),
    "a URL with a fragment": (UPSTREAM.replace("/v1", "/v1#a"), "upstreams[0].base_url:"),
    "a URL with a port that is none": (UPSTREAM.replace("//h", "//h:x"), "upstreams[0].base_url:"),
    "a URL with half an address": (UPSTREAM.replace("//h", "//[::1"), "upstreams[0].base_url:"),
    "a URL with a line end": (UPSTREAM.replace("/v1", "/v\\n1"), "upstreams[0].base_url:"),
    "a URL with a space": (UPSTREAM.replace("/v1", "/v 1"), "upstreams[0].base_url:"),
    "a URL with a password": (UPSTREAM.replace("//h", "//u:p@h"), "upstreams[0].base_url:"),
    "a proxy that is no URL": (UPSTREAM + 'proxy = "h:3128"', "upstreams[0].proxy:"),
    "a proxy of another kind": (UPSTREAM + 'proxy = "socks5://h"', "upstreams[0].proxy:"),
    "a field name that is none": (UPSTREAM + 'headers = {"a b" = "x"}', "upstreams[0].headers.a b: not a field name"),
    "an empty field name": (UPSTREAM + 'headers = {"" = "x"}', "upstreams[0].headers.: not a field name"),
    "fault_84 a field of the connection": (
        UPSTREAM + 'headers = {Transfer-Encoding = "chunked"}',
        "upstreams[0].headers.Transfer-Encoding: is set by the connection",
    ),
    "fault_84 the host": (UPSTREAM + 'headers = {host = "x"}', "upstreams[0].headers.host: is set by the connection"),
    "fault_75 a line end in a field": (UPSTREAM + 'headers = {a = "x\\r\\nb: c"}', "upstreams[0].headers.a: must be"),
    "fault_75 a line end in a key": (UPSTREAM + 'api_key = "k\\n"', "upstreams[0].api_key: must be printable ASCII"),
    "an empty key of an upstream": (UPSTREAM + 'api_key = ""', "upstreams[0].api_key: is empty; leave the line out"),
    "a key that is not ASCII": (UPSTREAM + 'api_key = "é"', "upstreams[0].api_key: must be printable ASCII"),
    "an origin with a path": ('[server]\ncors_origins = ["https://a/"]', "server.cors_origins[0]:"),
    "an origin without a scheme": ('[server]\ncors_origins = ["a.example"]', "server.cors_origins[0]:"),
    "an origin in capitals": ('[server]\ncors_origins = ["https://A.example"]', "server.cors_origins[0]:"),
    "an origin that is not ASCII": ('[server]\ncors_origins = ["https://bücher.example"]', "server.cors_origins[0]:"),
    "an origin that cannot be read": ('[server]\ncors_origins = ["http://["]', "server.cors_origins[0]:"),
    "fault_79 every origin": ('[server]\ncors_origins = ["https://a", "*"]', "server.cors_origins[1]:"),
    "fault_79 every origin below a name": (
        '[server]\ncors_origins = ["https://*.example.com"]',
        "server.cors_origins[0]: browsers send no `*`; write each origin in full, such as https://app.example.com",
    ),
    "an origin with the usual port": (
        '[server]\ncors_origins = ["https://a.example:8443", "https://a.example:443"]',
        "server.cors_origins[1]: browsers leave the usual port out; write https://a.example",
    ),
    "an origin with the usual port, without TLS": (
        '[server]\ncors_origins = ["http://[::1]:80"]',
        "server.cors_origins[0]: browsers leave the usual port out; write http://[::1]",
    ),
    "fault_79 no origin": ('[server]\ncors_origins = ["null"]', "server.cors_origins[0]:"),
    "an endpoint with its path": ('[traces]\nendpoint = "http://h:4318/v1/traces"', "traces.endpoint:"),
    "an endpoint with a user": ('[traces]\nendpoint = "http://u:p@h:4318"', "traces.endpoint:"),
    "a ratio above all": ("[traces]\nsample_ratio = 1.5", "traces.sample_ratio:"),
    "a field of traces that is none": ('[traces]\nheaders = {"a b" = "c"}', "traces.headers.a b:"),
    "a public URL that is none": ('[server]\npublic_url = "chat.example"', "server.public_url:"),
    "a public URL with a user": ('[server]\npublic_url = "https://u@chat.example"', "server.public_url:"),
    "several workers that hand over": (
        '[server]\nworkers = 2\nruntime_dir = "/run/gateway"',
        "server.runtime_dir: several workers cannot hand over their port; "
        "set server.workers = 1, or leave server.runtime_dir out",
    ),
    "a folder by its relative path": ('[server]\nruntime_dir = "run"', "server.runtime_dir: expected an absolute path"),
    "a folder with a long name": (
        f'[server]\nruntime_dir = "/{"é" * 45}"',
        "server.runtime_dir: expected an absolute path of at most 90 bytes",
    ),
    "no endpoints": (UPSTREAM + model("m", "up") + "endpoints = []", "models[0].endpoints: expected at least one"),
    "an endpoint without the one that it needs": (
        UPSTREAM + model("m", "up") + 'endpoints = ["embeddings", "responses"]',
        "models[0].endpoints[1]: responses needs chat/completions; add it, too",
    ),
    "targets of different APIs": (
        UPSTREAM
        + '[[upstreams]]\nname = "maker"\nbase_url = "http://h/v1"\napi = "responses"\n'
        + '[[models]]\nname = "m"\ntargets = [{upstream = "up"}, {upstream = "maker"}]\n',
        "models[0].targets: their upstreams differ in `api`, so not all of them make responses; "
        "leave responses out of models[0].endpoints, or split the model",
    ),
    "an assistant whose model has no chats": (
        UPSTREAM + model("m", "up") + 'endpoints = ["rerank"]\n[assistants.a]\nmodel = "m"',
        "assistants.a.model: chat/completions is not among the endpoints of m",
    ),
    "a key that is none": (KEY, "keys[0]: expected one of hash and key; `gateway key k` makes one"),
    "a key in two ways": (KEY + f'hash = "{HASH}"\nkey = "{SIXTEEN}"', "keys[0]: expected one of hash and key"),
    "a hash of another kind": (KEY + f'hash = "md5:{"0f" * 16}"', "keys[0].hash: expected sha256:"),
    "a bare hash": (KEY + f'hash = "{"0f" * 32}"', "keys[0].hash: expected sha256:"),
    "a hash in capitals": (KEY + f'hash = "sha256:{"0F" * 32}"', "keys[0].hash: expected sha256:"),
    "half a hash": (KEY + f'hash = "{HASH[:-1]}"', "keys[0].hash: expected sha256:"),
    "a hash and a line end": (KEY + f'hash = "{HASH}\\n"', "keys[0].hash: expected sha256:"),
    "the hash of an empty text": (
        KEY + f'hash = "sha256:{sha256().hexdigest()}"',
        "keys[0].hash: is that of an empty text; `gateway key k` makes a key and its hash",
    ),
    "fault_88 a short key": (KEY + f'key = "{SIXTEEN[1:]}"', "keys[0].key: expected at least 16"),
    "an empty key": (KEY + 'key = ""', "keys[0].key: expected at least 16"),
    "a key with a space": (KEY + f'key = "{SIXTEEN} x"', "keys[0].key: expected at least 16"),
    "a key with a line end": (KEY + f'key = "{SIXTEEN}\\n"', "keys[0].key: expected at least 16"),
    "a key that is not ASCII, of a caller": (KEY + f'key = "{SIXTEEN}é"', "keys[0].key: expected at least 16"),
    "a key's name twice": (
        KEY + f'hash = "{HASH}"\n' + KEY + f'key = "{SIXTEEN}"',
        "keys[1].name: k is taken",
    ),
    "a key twice": (
        KEY + f'key = "{SIXTEEN}"\n[[keys]]\nname = "l"\nhash = "sha256:{sha256(SIXTEEN.encode()).hexdigest()}"',
        "keys[1]: the same key as that of k",
    ),
    "a key's model that is not there": (
        UPSTREAM + model("m", "up") + KEY + f'hash = "{HASH}"\nmodels = ["m", "n"]',
        "keys[0].models[1]: there is no model named n",
    ),
    "a budget without models": (
        UPSTREAM + KEY + f'hash = "{HASH}"\nbudget = {{amount = 5, per = "day"}}',
        "keys[0].budget: needs [[models]] with prices",
    ),
    "a budget for a model without prices": (
        UPSTREAM + PRICED + model("n", "up") + KEY + f'hash = "{HASH}"\nbudget = {{amount = 5, per = "day"}}',
        "keys[0].budget: the model n has no prices for its target up/n; add them, or leave the model out",
    ),
    "a budget for a target without prices": (
        UPSTREAM
        + '[[models]]\nname = "m"\n'
        + 'targets = [{upstream = "up", prices = {input = 1, output = 1}}, {upstream = "up", model = "b"}]\n'
        + KEY
        + f'hash = "{HASH}"\nbudget = {{amount = 5, per = "day"}}',
        "keys[0].budget: the model m has no prices for its target up/b",
    ),
    "a budget that several workers would count": (
        "[server]\nworkers = 2\n" + UPSTREAM + PRICED + KEY + f'hash = "{HASH}"\nbudget = {{amount = 5, per = "day"}}',
        "keys[0].budget: several workers would each spend it; set server.workers = 1, or store.url to a Redis",
    ),
    "a budget of nothing": (
        UPSTREAM + PRICED + KEY + f'hash = "{HASH}"\nbudget = {{amount = 0, per = "day"}}',
        "keys[0].budget.amount: expected a number >= 1e-06",
    ),
    "a budget for a week": (
        UPSTREAM + PRICED + KEY + f'hash = "{HASH}"\nbudget = {{amount = 5, per = "week"}}',
        "keys[0].budget.per: expected one of hour, day, month",
    ),
    "a budget for all time": (
        UPSTREAM + PRICED + KEY + f'hash = "{HASH}"\nbudget = {{amount = 5}}',
        "keys[0].budget.per: missing",
    ),
    "a proxy that is a name": (
        '[server]\ntrusted_proxies = ["127.0.0.1", "nginx"]',
        "server.trusted_proxies[1]: expected an address, or a network",
    ),
    "a proxy with a port": ('[server]\ntrusted_proxies = ["127.0.0.1:80"]', "server.trusted_proxies[0]:"),
    "a network with bits of a host": ('[server]\ntrusted_proxies = ["10.0.0.1/8"]', "server.trusted_proxies[0]:"),
    "an empty proxy": ('[server]\ntrusted_proxies = [""]', "server.trusted_proxies[0]:"),
    "every proxy": ('[server]\ntrusted_proxies = ["*"]', "server.trusted_proxies[0]:"),
    "an upstream's name twice": (UPSTREAM + UPSTREAM, "upstreams[1].name: up is taken"),
    "a model's name twice": (UPSTREAM + model("m", "up") * 2, "models[1].name: m is taken"),
    "no target": (UPSTREAM + model("m"), "models[0].targets: expected at least one"),
    "a target twice": (
        UPSTREAM + model("m", "up", "up"),
        "models[0].targets[1]: up with the model m is a target already",
    ),
    "a target that is not there": (
        UPSTREAM + model("m", "down"),
        "models[0].targets[0].upstream: there is no upstream named down",
    ),
    "an unknown dialect": (UPSTREAM + 'dialect = "bedrock"', "upstreams[0].dialect:"),
    "usage that Anthropic's API tells anyway": (
        UPSTREAM + 'dialect = "anthropic"\nstream_usage = false',
        "upstreams[0].stream_usage:",
    ),
    "Anthropic's thinking for another API": (
        UPSTREAM + 'thinking = "budget"',
        "upstreams[0].thinking: is for the dialect anthropic",
    ),
    "another way of thinking": (
        UPSTREAM + 'dialect = "anthropic"\nthinking = "enabled"',
        "upstreams[0].thinking: expected one of adaptive, budget",
    ),
    "endpoints that Anthropic's API does not have": (
        UPSTREAM + 'dialect = "anthropic"\n' + model("m", "up") + 'endpoints = ["embeddings"]',
        "models[0].endpoints: its targets have none of them",
    ),
    "a model that is not there": (
        UPSTREAM + model("m", "up") + '[assistants.a]\nmodel = "n"',
        "assistants.a.model: there is no model named n",
    ),
}


@pytest.mark.parametrize("case", RULES)
def test_every_contradiction_is_told_with_its_path(case: str) -> None:
    text, start = RULES[case]
    (fault,) = faults(text)
    assert fault.startswith(start)


def test_contradictions_and_other_faults_are_told_all_at_once() -> None:
    mixed = faults("[stream]\nretry_ms = -1\n[store]\nx = 1\n" + UPSTREAM.replace("http", "ftp"))
    assert {fault.partition(":")[0] for fault in mixed} == {"stream.retry_ms", "store.x", "upstreams[0].base_url"}
    found = faults('[server]\nhost = "::"\n' + UPSTREAM.replace("http", "ftp") + model("m", "x"))
    assert [fault.partition(":")[0] for fault in found] == [
        "upstreams[0].base_url",
        "server.host",
        "models[0].targets[0].upstream",
    ]


def test_unknown_keys_and_missing_fields_hide_no_other_fault() -> None:
    """Not those of the same table, and not those of names that other tables mention."""
    found = faults(
        "sever = 1\n[server]\nprot = 1\nport = 70000\ntrusted_proxies = ['x']\n"
        + UPSTREAM.replace("http", "ftp")
        + 'colour = "red"\n[[upstreams]]\nname = "up"\n'
        + model("m", "nobody")
        + "colour = 1\n[[keys]]\nname = 'k'\nhash = 7\nmodels = ['none']\n"
        + "[assistants.a]\nmodel = 'none'\ntemperature = 1"
    )
    assert [fault.partition(": ")[0] for fault in found] == [
        "sever",
        "server.prot",
        "server.port",
        "upstreams[0].colour",
        "upstreams[1].base_url",
        "models[0].colour",
        "assistants.a.temperature",
        "keys[0].hash",
        "upstreams[0].base_url",
        "server.trusted_proxies[0]",
        "upstreams[1].name",
        "models[0].targets[0].upstream",
        "keys[0].models[0]",
        "assistants.a.model",
    ]


def test_what_only_a_look_at_the_disk_finds_is_told_with_the_rest() -> None:
    with pytest.raises(Faults) as raised:
        load("[server]\nprot = 1\n" + UPSTREAM, {}, look=lambda config: [f"{config.upstreams[0].name}: is not there"])
    assert raised.value.faults == ["server.prot: unknown key; did you mean port?", "up: is not there"]


@pytest.mark.parametrize("path", ["/chat/completions/", "/models", *[f"/{endpoint}" for endpoint in Endpoint]])
@pytest.mark.parametrize("base", ["http://h/v1", "http://h:8000"])
def test_a_base_url_with_the_path_of_a_call_is_refused_with_the_right_value(base: str, path: str) -> None:
    (fault,) = faults(UPSTREAM.replace("http://h/v1", base + path))
    assert fault.startswith("upstreams[0].base_url: ")
    assert fault.endswith(f"write {base}")


def test_a_table_with_a_fault_does_not_hide_those_of_the_others() -> None:
    found = faults('[server]\nhost = "::"\n[stream]\nretry_ms = "x"\n' + UPSTREAM.replace("http", "ftp"))
    assert [fault.partition(":")[0] for fault in found] == ["stream.retry_ms", "upstreams[0].base_url", "server.host"]


@pytest.mark.parametrize(
    "text",
    [
        '[server]\nhost = "0.0.0.0"\nallow_anonymous = true',
        '[server]\nhost = "localhost"\nport = 0\ncors_origins = ["https://a.example", "http://localhost:3000", "app://x"]',
        '[server]\ncors_origins = ["http://a.example:443", "https://a.example:80", "http://a:8080", "app://x:80"]',
        '[server]\nhost = "::1"\npublic_url = "https://chat.example/gateway/"',
        UPSTREAM.replace("//h/v1", "//[::1]:8000/openai/v1/"),
        UPSTREAM + 'proxy = "http://user:pass@proxy:3128"\nheaders = {X-Team = "a b", api-key = "k"}\napi_key = "k"',
        UPSTREAM + '[assistants.a]\nmodel = "any"',
        UPSTREAM + model("m", "up") + '[assistants.a]\nmodel = "m"\nparameters = {a = [1, {b = 1.5}], d = 1979-05-27}',
        "[timeouts]\nidle = 1\ntotal = 0.5\n[stream]\nretry_ms = 0",
        '[server]\nhost = "0.0.0.0"\n' + KEY + f'hash = "{HASH}"\nmodels = ["any"]\nexpires = 2026-12-31',
        KEY + f'key = "{SIXTEEN}"\nrequests_per_minute = 1\ntokens_per_minute = 1\nmax_streams = 1',
        '[server]\ntrusted_proxies = ["10.0.0.0/8", "::1", "fd00::/8", "192.0.2.1/32"]',
        "[server]\ntrusted_proxies = []",
        UPSTREAM + model("m", "up") + "prices = {input = 0, output = 1, cached = 0.5, written = 1.25}",
        "[assistants.a]\npublic = true\nrequests_per_minute = 1\nmax_streams = 1\nmax_tokens = 1",
    ],
)
def test_what_is_right_is_taken(text: str) -> None:
    assert load(text, {})


def test_what_did_not_come_from_a_file_is_checked_too() -> None:
    """A command line changes the address; a program may build what no file can hold."""
    with pytest.raises(Faults, match=r"server\.host"):
        checked(Config(server=Server(host="192.0.2.1")))
    with pytest.raises(Faults, match=r"assistants\.a\.parameters: cannot be sent as JSON"):
        checked(Config(assistants={"a": Assistant(parameters={"x": object()})}))
    config = Config(models=[Model("m", [TargetName("up")])], upstreams=[Upstream("up", "http://h")])
    assert checked(config) is config


# Rules of their own


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "127.255.255.255", "::1", "[::1]"])
def test_addresses_that_no_other_machine_reaches(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "[::]", "10.0.0.1", "128.0.0.1", "localhost.example", "127.1", "x"]
)
def test_addresses_that_others_may_reach(host: str) -> None:
    assert not is_loopback(host)


def test_the_narrower_timeout_wins_field_by_field() -> None:
    narrow, wide = Timeouts(connect=1.0, idle=2.0), Timeouts(connect=3.0, total=4.0)
    assert narrow.over(wide) == Timeouts(connect=1.0, first_token=None, idle=2.0, total=4.0)
    assert Timeouts().over(DEFAULT_TIMEOUTS) == DEFAULT_TIMEOUTS


# Secrets

HIDDEN = "sk-SECRET"
WITH_SECRETS = (
    UPSTREAM + 'api_key = "${KEY}"\nheaders = {api-key = "${KEY}"}\nproxy = "http://user:${KEY}@proxy:3128/"\n'
    '[assistants.a]\nmodel = "m"\nsystem = ["Be brief."]\nparameters = {temperature = 0.3}\n'
)


def test_fault_77_what_is_described_holds_no_secret() -> None:
    lines = list(described(load(WITH_SECRETS, {"KEY": HIDDEN})))
    assert HIDDEN not in "\n".join(lines)
    assert "upstreams[0].api_key = ***" in lines
    assert "upstreams[0].headers.api-key = ***" in lines
    assert 'upstreams[0].proxy = "http://***@proxy:3128/"' in lines


def test_a_password_with_an_at_sign_is_hidden_whole() -> None:
    text = UPSTREAM + 'proxy = "http://user:pa@SECRET@proxy:3128"\n[assistants.a]\nsystem = ["a@b"]\n'
    lines = list(described(load(text, {})))
    assert 'upstreams[0].proxy = "http://***@proxy:3128"' in lines
    assert 'assistants.a.system = ["a@b"]' in lines


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://", "memory://"),
        ("redis://127.0.0.1:6379/1", "redis://127.0.0.1:6379/1"),
        ("rediss://user:pa@SECRET@redis:6379", "rediss://***@redis:6379"),
        ("redis://redis?password=SECRET", "redis://redis"),
        ("unix:///run/redis.sock?db=1&password=SECRET", "unix:///run/redis.sock"),
        ("redis://user:123?SECRET@redis", "***"),
    ],
)
def test_fault_77_the_store_is_shown_without_its_password(url: str, shown: str) -> None:
    assert f'store.url = "{shown}"' in list(described(load(f'[store]\nurl = "{url}"', {})))


def test_fault_77_a_secret_does_not_print_itself() -> None:
    secret = Secret(HIDDEN)
    assert secret.reveal() == HIDDEN
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>5}", repr([secret]), repr({"a": secret})):
        assert HIDDEN not in shown
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)


def test_fault_77_a_configuration_does_not_print_its_keys() -> None:
    assert HIDDEN not in repr(load(WITH_SECRETS.replace("user:${KEY}@", ""), {"KEY": HIDDEN}))


def test_fault_77_faults_hold_no_secret() -> None:
    text = UPSTREAM.replace("http://h", "${KEY}") + 'api_key = "${KEY}\\n"\nheaders = {a = "${KEY}\\n"}\n[x]\n'
    for told in (faults(text, {"KEY": HIDDEN}), faults(text.replace("[x]", ""), {"KEY": HIDDEN})):
        assert HIDDEN not in "\n".join(told)


def test_what_is_described() -> None:
    """A line per value, with its path; what is not set has no line."""
    config = load(WITH_SECRETS + "[timeouts]\nidle = 7\n", {"KEY": "k", "OPENAI_MODEL": "é"})
    lines = list(described(config))
    assert 'server.host = "127.0.0.1"' in lines
    assert "server.cors_origins = []" in lines
    assert "timeouts.idle = 7.0" in lines
    assert 'upstreams[0].name = "up"' in lines
    assert 'assistants.a.system = ["Be brief."]' in lines
    assert 'assistants.a.parameters = {"temperature":0.3}' in lines
    assert 'default_model = "é"' in lines
    assert not [line for line in lines if line.endswith("null") or "public_url" in line or "timeouts.total" in line]


def test_fault_77_a_callers_key_is_not_described_and_its_hash_may_be() -> None:
    """Nothing can be asked with a hash."""
    config = load(KEY + 'key = "${KEY}"\n[[keys]]\nname = "l"\n' + f'hash = "{HASH}"', {"KEY": "gw-SECRET-0123456"})
    lines = list(described(config))
    assert "keys[0].key = ***" in lines
    assert f'keys[1].hash = "{HASH}"' in lines
    assert "SECRET" not in "\n".join(lines) + repr(config)


def test_fault_77_faults_of_a_callers_key_do_not_hold_it() -> None:
    told = faults(KEY + 'key = "${KEY}"\n' + KEY + 'key = "${KEY}"', {"KEY": "SECRET"})
    assert "SECRET" not in "\n".join(told)


def test_what_is_described_of_limits_and_prices() -> None:
    config = load(
        UPSTREAM
        + model("m", "up")
        + 'endpoints = ["embeddings", "rerank"]\n'
        + "prices = {input = 1, output = 2.5}\n"
        + KEY
        + f'hash = "{HASH}"\nmax_streams = 3\nexpires = 2026-12-31\n[assistants.a]\npublic = true',
        {},
    )
    lines = list(described(config))
    for line in (
        'models[0].endpoints = ["embeddings","rerank"]',
        "models[0].prices.output = 2.5",
        "keys[0].max_streams = 3",
        'keys[0].expires = "2026-12-31"',
        "assistants.a.public = true",
        "assistants.a.requests_per_minute = 10",
        "assistants.a.max_streams = 2",
        'server.trusted_proxies = ["127.0.0.1","::1"]',
    ):
        assert line in lines


# The example

EXAMPLE = (Path(__file__).parents[2] / "config.example.toml").read_text(encoding="utf-8")


def test_the_example_loads() -> None:
    names = re.findall(r"\$\{([A-Z_]+)\}", EXAMPLE)
    config = load(EXAMPLE, dict.fromkeys(names, "x" * 16))
    assert config.upstreams
    assert config.models
    assert config.assistants


def test_the_example_holds_the_defaults() -> None:
    """What it says of a table that is there once is what is there without it."""
    table = tomllib.loads(EXAMPLE)
    for name in ("server", "stream", "store", "retry", "breaker", "traces"):
        default = msgspec.to_builtins(getattr(Config(), name), enc_hook=Secret.reveal)
        assert table[name] == {key: value for key, value in default.items() if value is not None}
    assert table["timeouts"] == msgspec.to_builtins(DEFAULT_TIMEOUTS)


@pytest.mark.parametrize(
    "kind",
    [
        *(
            Config,
            Server,
            Stream,
            Store,
            Timeouts,
            Retry,
            BreakerLimits,
            Upstream,
            Model,
            Prices,
            TargetName,
            Assistant,
            Key,
            Budget,
        ),
        Traces,
    ],
)
def test_every_option_stands_in_the_example(kind: type[msgspec.Struct]) -> None:
    options = [field.encode_name for field in msgspec.structs.fields(kind) if field.name != "default_model"]
    for option in options:
        assert re.search(rf"(?m)^(# |\[+)?{option}( =|\]|\.)|[{{ ]{option} = ", EXAMPLE), option


def test_a_budget_needs_no_prices_of_what_its_key_may_not_ask() -> None:
    budget = 'models = ["m"]\nbudget = {amount = 5, per = "day"}\n'
    config = load(UPSTREAM + PRICED + model("n", "up") + KEY + f'hash = "{HASH}"\n' + budget, {})
    assert config.keys[0].budget == Budget(5.0, Per.DAY, 16_384)
    assert [line for line in described(config) if "budget" in line] == [
        "keys[0].budget.amount = 5.0",
        'keys[0].budget.per = "day"',
        "keys[0].budget.max_tokens = 16384",
    ]


def test_several_workers_may_share_a_budget_in_redis() -> None:
    store = '[store]\nurl = "redis://127.0.0.1/0"\n[server]\nworkers = 2\n'
    budget = 'budget = {amount = 5, per = "month"}\n'
    assert load(store + UPSTREAM + PRICED + KEY + f'hash = "{HASH}"\n' + budget, {}).keys[0].budget is not None


def test_targets_of_different_apis_may_share_chats() -> None:
    """What makes responses needs no chats for that."""
    maker = '[[upstreams]]\nname = "maker"\nbase_url = "http://h/v1"\napi = "responses"\n'
    both = '[[models]]\nname = "m"\ntargets = [{upstream = "up"}, {upstream = "maker"}]\n'
    alone = '[[models]]\nname = "r"\ntargets = [{upstream = "maker"}]\nendpoints = ["responses"]\n'
    config = load(UPSTREAM + maker + both + 'endpoints = ["chat/completions"]\n' + alone, {})
    assert config.models[1].endpoints == [Endpoint.RESPONSES]
