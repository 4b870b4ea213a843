"""Rules that types cannot express: names that must exist, valid addresses, and who may be served. Pure."""

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from ipaddress import ip_address, ip_network
from urllib.parse import parse_qs, urlsplit

import msgspec

from gateway.config.schema import Api, Config, Dialect, Key, Model, Secret, Traces, Upstream
from gateway.endpoints import Endpoint

_SHORTEST_KEY = 16  # characters: 64 bits if they are hexadecimal, too many to try out over a network
_HASH_OF_NOTHING = f"sha256:{sha256().hexdigest()}"  # what a script makes of a variable that is not set
# Bytes of the folder's name. A Unix socket's name has 104 on macOS and 108 on Linux, and a file's name follows.
_LONGEST_FOLDER = 90
_FRAMING = frozenset({"connection", "content-length", "host", "transfer-encoding"})
_UNVERIFIED = frozenset({"ssl_cert_reqs", "ssl_check_hostname"})  # by which redis-py can be told to trust anyone
_USUAL_PORTS = {"http": ":80", "https": ":443"}  # which browsers leave out of an origin
_CALLS = rf"/({'|'.join([*Endpoint, 'models'])})/*\Z"  # the paths that follow a `base_url`


def value_faults(config: Config) -> Iterator[str]:
    """Faults of single values."""
    yield from _url_faults(config)
    yield from _endpoint_faults(config)
    yield from _key_faults(config)
    yield from _traces_faults(config.traces)
    if config.store.is_shared and not _is_redis_url(config.store.url.reveal()):
        yield "store.url: expected memory://, or redis(s)://[user:password@]host[:port][/database], or unix://path"
    elif config.store.is_shared and (names := _UNVERIFIED & parse_qs(urlsplit(config.store.url.reveal()).query).keys()):
        yield f"store.url: the certificate is always verified; leave {' and '.join(sorted(names))} out"
    if not re.fullmatch(r"[\x21-\x7a|~]{1,64}", config.store.prefix):
        yield "store.prefix: expected 1 to 64 printable ASCII characters without spaces and braces"
    server = config.server
    if not config.keys and not server.allow_anonymous and not is_loopback(server.host):
        yield (
            f"server.host: {server.host} can be reached from other machines, and there are no [[keys]]; "
            "use 127.0.0.1, add a key, or set server.allow_anonymous = true to serve everyone"
        )
    if config.metrics.token is not None and not _is_api_key(config.metrics.token):
        yield f"metrics.token: expected at least {_SHORTEST_KEY} printable ASCII characters without spaces"
    if server.runtime_dir is not None and not _is_folder(server.runtime_dir):
        yield f"server.runtime_dir: expected an absolute path of at most {_LONGEST_FOLDER} bytes"
    if server.runtime_dir is not None and server.workers > 1:
        yield (
            "server.runtime_dir: several workers cannot hand over their port; "
            "set server.workers = 1, or leave server.runtime_dir out"
        )
    for index, proxy in enumerate(server.trusted_proxies):
        if not _is_network(proxy):
            yield f"server.trusted_proxies[{index}]: expected an address, or a network such as 10.0.0.0/8"


def _is_redis_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme == "unix":
        return bool(parts.path)
    return parts.scheme in ("redis", "rediss") and bool(parts.hostname) and port != 0


def _url_faults(config: Config) -> Iterator[str]:
    for index, upstream in enumerate(config.upstreams):
        if not _is_http_url(upstream.base_url):
            yield f"upstreams[{index}].base_url: expected http(s)://host[:port]/v1, without a query or a user"
        elif call := re.search(_CALLS, upstream.base_url):
            base = upstream.base_url[: call.start()]
            yield f"upstreams[{index}].base_url: the gateway adds the path of each call itself; write {base}"
        if upstream.proxy is not None and not _is_http_url(upstream.proxy, with_user=True):
            yield f"upstreams[{index}].proxy: expected http(s)://[user:password@]host:port"
        if upstream.dialect is Dialect.ANTHROPIC and not upstream.stream_usage:
            yield f"upstreams[{index}].stream_usage: is for the dialect openai; Anthropic's API always tells the usage"
        if upstream.dialect is Dialect.OPENAI and upstream.thinking is not None:
            yield f"upstreams[{index}].thinking: is for the dialect anthropic; others are sent `reasoning_effort`"
        yield from _header_faults(upstream.headers, f"upstreams[{index}].headers")
        if upstream.api_key is not None and not upstream.api_key.reveal():
            yield f"upstreams[{index}].api_key: is empty; leave the line out if the server wants no key"
        elif upstream.api_key is not None and not _is_field_value(upstream.api_key):
            yield f"upstreams[{index}].api_key: must be printable ASCII, without line ends"
    for index, origin in enumerate(config.server.cors_origins):
        if (fault := _origin_fault(origin)) is not None:
            yield f"server.cors_origins[{index}]: {fault}"
    if config.server.public_url is not None and not _is_http_url(config.server.public_url):
        yield "server.public_url: expected http(s)://host[:port]"


def _endpoint_faults(config: Config) -> Iterator[str]:
    for index, upstream in enumerate(config.upstreams):
        if upstream.dialect is Dialect.ANTHROPIC and upstream.api is not Api.CHAT:
            yield f"upstreams[{index}].api: the dialect anthropic has chats only; leave this line out"
    served = {upstream.name: upstream.endpoints for upstream in config.upstreams}
    for index, model in enumerate(config.models):
        targets = [served[target.upstream] for target in model.targets if target.upstream in served]
        if targets and model.endpoints and not any(set(model.endpoints) & set(endpoints) for endpoints in targets):
            yield f"models[{index}].endpoints: its targets have none of them; the dialect anthropic has chats only"
        if not model.endpoints:
            yield f"models[{index}].endpoints: expected at least one; without this line, the model has all of them"
        upstreams = [upstream for upstream in config.upstreams if _is_target(upstream, model)]
        for place, endpoint in enumerate(model.endpoints):
            needed = {upstream.asked_at(endpoint) for upstream in upstreams} or {endpoint.asked_as}
            if len(needed) > 1:
                yield (
                    f"models[{index}].targets: their upstreams differ in `api`, so not all of them make {endpoint}; "
                    f"leave {endpoint} out of models[{index}].endpoints, or split the model"
                )
            elif not needed <= {*model.endpoints}:
                yield f"models[{index}].endpoints[{place}]: {endpoint} needs {endpoint.asked_as}; add it, too"


def _is_target(upstream: Upstream, model: Model) -> bool:
    return any(target.upstream == upstream.name for target in model.targets)


def _header_faults(headers: Mapping[str, Secret], path: str) -> Iterator[str]:
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            yield f"{path}.{name}: not a field name (RFC 9110, section 5.1)"
        if name.lower() in _FRAMING:
            yield f"{path}.{name}: is set by the connection itself"
        if not _is_field_value(value):
            yield f"{path}.{name}: must be printable ASCII"


def _traces_faults(traces: Traces) -> Iterator[str]:
    if traces.endpoint is not None:
        if not _is_http_url(traces.endpoint):
            yield "traces.endpoint: expected http(s)://host[:port] (or unset OTEL_EXPORTER_OTLP_ENDPOINT)"
        elif traces.endpoint.rstrip("/").endswith("/v1/traces"):
            yield "traces.endpoint: the gateway adds /v1/traces itself; write the address without it"
    yield from _header_faults(traces.headers, "traces.headers")


def _key_faults(config: Config) -> Iterator[str]:
    for index, key in enumerate(config.keys):
        if (key.hash is None) == (key.key is None):
            yield f"keys[{index}]: expected one of hash and key; `gateway key {key.name}` makes one"
        if key.hash is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}", key.hash):
            yield f"keys[{index}].hash: expected sha256: and 64 hexadecimal digits, in lower case"
        if key.hash == _HASH_OF_NOTHING:
            yield f"keys[{index}].hash: is that of an empty text; `gateway key {key.name}` makes a key and its hash"
        if key.key is not None and not _is_api_key(key.key):
            yield f"keys[{index}].key: expected at least {_SHORTEST_KEY} printable ASCII characters without spaces"


def name_faults(config: Config) -> Iterator[str]:
    """Names that are used twice or do not exist. The tables of the configuration must be complete."""
    upstreams = [upstream.name for upstream in config.upstreams]
    models = [model.name for model in config.models]
    yield from (f"upstreams[{i}].name: {name} is taken" for i, name in enumerate(upstreams) if name in upstreams[:i])
    yield from (f"models[{i}].name: {name} is taken" for i, name in enumerate(models) if name in models[:i])
    for index, model in enumerate(config.models):
        yield from _target_faults(model, f"models[{index}].targets", upstreams)
    yield from _key_name_faults(config)
    yield from _budget_faults(config)
    silent = [model.name for model in config.models if Endpoint.CHAT not in model.endpoints]
    for name, assistant in config.assistants.items():
        if models and assistant.model is not None and assistant.model not in models:
            yield f"assistants.{name}.model: there is no model named {assistant.model}"
        if assistant.model in silent:
            yield f"assistants.{name}.model: {Endpoint.CHAT} is not among the endpoints of {assistant.model}"
        try:
            msgspec.json.encode(assistant.parameters)
        except (TypeError, ValueError, RecursionError) as error:
            yield f"assistants.{name}.parameters: cannot be sent as JSON: {error}"


def _target_faults(model: Model, path: str, upstreams: list[str]) -> Iterator[str]:
    if not model.targets:
        yield f"{path}: expected at least one target"
    names = [(target.upstream, target.model or model.name) for target in model.targets]
    for place, (upstream, name) in enumerate(names):
        if upstream not in upstreams:
            yield f"{path}[{place}].upstream: there is no upstream named {upstream}"
        elif (upstream, name) in names[:place]:
            yield f"{path}[{place}]: {upstream} with the model {name} is a target already"


def _key_name_faults(config: Config) -> Iterator[str]:
    names = [key.name for key in config.keys]
    digests = [digest(key) for key in config.keys]
    models = [model.name for model in config.models]
    for index, key in enumerate(config.keys):
        if key.name in names[:index]:
            yield f"keys[{index}].name: {key.name} is taken"
        if digests[index] in digests[:index]:
            yield f"keys[{index}]: the same key as that of {names[digests.index(digests[index])]}"
        for place, model in enumerate(key.models):
            if models and model not in models:
                yield f"keys[{index}].models[{place}]: there is no model named {model}"


def _budget_faults(config: Config) -> Iterator[str]:
    """A budget needs the prices of all that its key may ask, and one place where it is counted."""
    for index, key in enumerate(config.keys):
        path = f"keys[{index}].budget"
        if key.budget is None:
            continue
        if not config.models:
            yield f"{path}: needs [[models]] with prices; without them, it is not known what a request costs"
        if config.server.workers > 1 and not config.store.is_shared:
            yield f"{path}: several workers would each spend it; set server.workers = 1, or store.url to a Redis"
        for model in config.models:
            if key.models and model.name not in key.models:
                continue
            for target in model.targets:
                if target.prices is None and model.prices is None:
                    name = f"{target.upstream}/{target.model or model.name}"
                    yield (
                        f"{path}: the model {model.name} has no prices for its target {name}; "
                        f"add them, or leave the model out of keys[{index}].models"
                    )


def digest(key: Key) -> str:
    """The SHA-256 of an API key in hexadecimal. The configuration holds the key or its hash."""
    if key.key is not None:
        return sha256(key.key.reveal().encode()).hexdigest()
    return (key.hash or "").removeprefix("sha256:")


def is_loopback(host: str) -> bool:
    """Whether no other machine can reach this address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def origin_of(scheme: str, authority: str) -> str:
    """The origin as browsers send it (RFC 6454, section 6.2): in lower case, and without the usual port."""
    return f"{scheme}://{authority}".lower().removesuffix(_USUAL_PORTS.get(scheme, ""))


def _origin_fault(text: str) -> str | None:
    """Why no browser sends this as an origin. It is compared to the letter with what browsers send."""
    if "*" in text:
        return "browsers send no `*`; write each origin in full, such as https://app.example.com"
    if not _is_origin(text):
        return "expected scheme://host[:port] and nothing after it"
    parts = urlsplit(text)
    sent = origin_of(parts.scheme, parts.netloc)
    return None if text == sent else f"browsers leave the usual port out; write {sent}"


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    return bool(parts.scheme and parts.netloc) and text == origin and text.isascii()


def _is_http_url(text: str, *, with_user: bool = False) -> bool:
    if not text.isprintable() or " " in text:
        return False  # urlsplit strips some of these characters, but the client would send them
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    if "@" in parts.netloc and not with_user:
        return False  # it would be printed, and it would compete with `api_key`
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment


def _is_api_key(secret: Secret) -> bool:
    return _is_field_value(secret) and " " not in secret.reveal() and len(secret.reveal()) >= _SHORTEST_KEY


def _is_folder(path: str) -> bool:
    return path.startswith("/") and path.isprintable() and len(path.encode()) <= _LONGEST_FOLDER


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _is_field_value(secret: Secret) -> bool:
    value = secret.reveal()
    return value.isascii() and value.isprintable()
