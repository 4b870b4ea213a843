"""What to change where something spoils a stream. With the directives of nginx, the proxy met most often. Pure."""

from collections.abc import Mapping

from gateway.commands.observed import Seen

_NGINX = ("nginx", "openresty", "tengine")


def refusal(seen: Seen) -> str:
    is_gateways = "x-request-id" in seen.fields and seen.fields.get("content-type") == "application/json"
    if seen.status in (301, 302, 303, 307, 308):
        place = shown(seen.fields.get("location", "").partition("?")[0].removesuffix("/doctor"))
        return f"This address redirects to {place}. Clients do not resend keys and questions there: use it as the URL."
    words = _REFUSALS.get(seen.status, "Look at the log of the server that answered.")
    return words if is_gateways else f"{words} The answer seems to come from a proxy, not from a gateway."


_REFUSALS: Mapping[int, str] = {
    401: "Give a valid key of the gateway with --key or in GATEWAY_KEY. A proxy may also ask for a password.",
    403: "The gateway has no keys, so it refuses other machines and proxies. Or a proxy refuses this client.",
    404: "Use the URL under which the gateway's routes are, and let the proxy pass on all paths below it, /doctor too.",
    421: "Without keys, the gateway serves its own machine only. Add keys, or set `server.allow_anonymous = true`.",
    429: "Too many requests: wait a minute, or look at the limits of the proxy.",
    502: "The proxy does not reach the gateway. Check that it runs, and the address behind `proxy_pass`.",
    503: "The gateway or a proxy is busy or restarting. Try again in a minute.",
    504: "The gateway did not answer the proxy in time. Check that it runs, and the address behind `proxy_pass`.",
}


def no_buffering(seen: Seen) -> str:
    directives = "`proxy_buffering off`, and no `proxy_ignore_headers X-Accel-Buffering`"
    return advice(seen, "Something on the way collects events. Switch off its buffering of responses", directives)


def no_compression(seen: Seen) -> str:
    words = "Do not compress text/event-stream: a compressor holds events back"
    return advice(seen, words, "`gzip off`, or `gzip_types` without text/event-stream and *")


def http_11(seen: Seen) -> str:
    words = "Let the proxy speak HTTP/1.1 to the gateway: with HTTP/1.0, a body that broke off looks whole"
    return advice(seen, words, '`proxy_http_version 1.1` and `proxy_set_header Connection ""`')


def advice(seen: Seen, words: str, directives: str) -> str:
    """nginx names itself often, but not always, and it may stand behind another proxy."""
    return f"{words}. {'In' if is_nginx(seen) else 'If it is nginx, in'} its location: {directives}."


def is_nginx(seen: Seen) -> bool:
    server = seen.fields.get("server", "").lower()
    return server.startswith(_NGINX) or "nginx" in seen.fields.get("via", "").lower()


def shown(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:80]
