"""Names of HTTP fields, for the tests of what passes the gateway in either direction.

The registered ones are those of https://www.iana.org/assignments/http-fields. The others are in use.
"""

import re

REGISTERED = re.findall(
    r"\S+",
    """
A-IM Accept Accept-Additions Accept-Ch Accept-Charset Accept-Datetime Accept-Encoding Accept-Features Accept-Language
Accept-Patch Accept-Post Accept-Ranges Access-Control Access-Control-Allow-Credentials Access-Control-Allow-Headers
Access-Control-Allow-Methods Access-Control-Allow-Origin Access-Control-Expose-Headers Access-Control-Max-Age
Access-Control-Request-Headers Access-Control-Request-Method Activate-Storage-Access Age Allow ALPN Alt-Svc Alt-Used
Alternates AMP-Cache-Transform Apply-To-Redirect-Ref Authentication-Control Authentication-Info Authorization
Available-Dictionary C-Ext C-Man C-Opt C-PEP C-PEP-Info Cache-Control Cache-Group-Invalidation Cache-Groups Cache-Status
Cal-Managed-ID CalDAV-Timezones Capsule-Protocol CDN-Cache-Control CDN-Loop Cert-Not-After Cert-Not-Before
Clear-Site-Data Client-Cert Client-Cert-Chain CMCD-Object CMCD-Request CMCD-Session CMCD-Status CMSD-Dynamic CMSD-Static
Compliance Concealed-Auth-Export Configuration-Context Connection Content-Base Content-Digest Content-Disposition
Content-Encoding Content-ID Content-Language Content-Length Content-Location Content-MD5 Content-Range
Content-Script-Type Content-Security-Policy Content-Security-Policy-Report-Only Content-Style-Type
Content-Transfer-Encoding Content-Type Content-Version Cookie Cookie2 Cost Cross-Origin-Embedder-Policy
Cross-Origin-Embedder-Policy-Report-Only Cross-Origin-Opener-Policy Cross-Origin-Opener-Policy-Report-Only
Cross-Origin-Resource-Policy CTA-Common-Access-Token DASL Date DAV Default-Style Delta-Base Deprecation Depth
Derived-From Destination Detached-JWS Differential-ID Dictionary-ID Digest Digest-Query DPoP DPoP-Nonce Early-Data
EDIINT-Features ETag Expect Expect-CT Expires Ext Forwarded From GetProfile Hobareg Host HTTP2-Settings If If-Match
If-Modified-Since If-None-Match If-Range If-Schedule-Tag-Match If-Unmodified-Since IM Include-Referred-Token-Binding-ID
Incremental Isolation Keep-Alive Label Last-Event-ID Last-Modified Link Link-Template Location Lock-Token Man
Max-Forwards Memento-Datetime Message-ID Meter Method-Check Method-Check-Expires MIME-Version Negotiate NEL
OData-EntityId OData-Isolation OData-MaxVersion OData-Version Opt Optional Optional-WWW-Authenticate Ordering-Type
Origin Origin-Agent-Cluster OSCORE OSLC-Core-Version Overwrite P3P PEP Pep-Info Permissions-Policy PICS-Label
Ping-From Ping-To Position Pragma Prefer Preference-Applied Priority ProfileObject Protocol Protocol-Info Protocol-Query
Protocol-Request Proxy-Authenticate Proxy-Authentication-Info Proxy-Authorization Proxy-Features Proxy-Instruction
Proxy-Status Public Public-Key-Pins Public-Key-Pins-Report-Only Range Redirect-Ref Referer Referer-Root Referrer-Policy
Refresh Repeatability-Client-ID Repeatability-First-Sent Repeatability-Request-ID Repeatability-Result Replay-Nonce
Reporting-Endpoints Repr-Digest Resolution-Hint Resolver-Location Retry-After Safe Schedule-Reply Schedule-Tag
Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-Storage-Access Sec-Fetch-User Sec-GPC Sec-Purpose
Sec-Token-Binding Sec-WebSocket-Accept Sec-WebSocket-Extensions Sec-WebSocket-Key Sec-WebSocket-Protocol
Sec-WebSocket-Version Security-Scheme Server Server-Timing Set-Cookie Set-Cookie2 SetProfile Signature Signature-Input
SLUG SoapAction Status-URI Strict-Transport-Security Sunset Surrogate-Capability Surrogate-Control SubOK Subst
TCN TE Timeout Timing-Allow-Origin Title Topic Traceparent Tracestate Trailer Transfer-Encoding TTL UA-Color UA-Media
UA-Pixels UA-Resolution UA-Windowpixels Unencoded-Digest Upgrade Upgrade-Insecure-Requests Urgency URI
Use-As-Dictionary User-Agent Variant-Vary Vary Version Via Want-Content-Digest Want-Digest Want-Repr-Digest
Want-Unencoded-Digest Warning WWW-Authenticate X-Content-Type-Options X-Frame-Options
""",
)

IN_USE = re.findall(
    r"\S+",
    """
Anthropic-Beta Anthropic-Dangerous-Direct-Browser-Access Anthropic-Organization-ID Anthropic-Version Api-Key Baggage
CF-Connecting-IP CF-Ray Client-IP DNT Gateway-Client Helicone-Auth HTTP-Referer Idempotency-Key OpenAI-Beta
OpenAI-Organization OpenAI-Processing-MS OpenAI-Project OpenAI-Version Ocp-Apim-Subscription-Key Proxy-Connection
Request-ID Sec-CH-UA Sentry-Trace True-Client-IP B3 X-Accel-Buffering X-Accel-Charset X-Accel-Expires
X-Accel-Limit-Rate X-Accel-Redirect X-Amz-Security-Token X-Amzn-Trace-Id X-API-Key X-Api-Version X-App X-Auth-Token
X-Azure-Ref X-B3-SpanId X-B3-TraceId X-Client-IP X-Cloud-Trace-Context X-CSRF-Token X-DashScope-SSE X-Debug
X-DNS-Prefetch-Control X-Download-Options X-Envoy-Upstream-Service-Time X-Forwarded-For X-Forwarded-Host
X-Forwarded-Proto X-Gateway-Attempts X-Goog-Api-Key X-HTTP-Method-Override X-LiteLLM-Tags X-Original-URL
X-Permitted-Cross-Domain-Policies X-Portkey-Config X-Powered-By X-RateLimit-Limit-Requests X-RateLimit-Limit-Tokens
X-RateLimit-Remaining-Requests X-RateLimit-Remaining-Tokens X-RateLimit-Reset-Requests X-RateLimit-Reset-Tokens
X-Real-IP X-Request-ID X-Requested-With X-Rewrite-URL X-Runtime X-Sendfile X-Should-Retry X-SourceMap X-Stainless-Arch
X-Stainless-Async X-Stainless-Helper-Method X-Stainless-Lang X-Stainless-OS X-Stainless-Package-Version
X-Stainless-Read-Timeout X-Stainless-Retry-Count X-Stainless-Runtime X-Title X-UA-Compatible X-XSS-Protection
""",
)

ALL = sorted({*REGISTERED, *IN_USE})
