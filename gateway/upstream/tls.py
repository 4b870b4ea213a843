"""What a fault of TLS means, in words for a person. Pure.

Python gives OpenSSL's names for the faults of a connection, and OpenSSL's numbers for those of a certificate.
"""

import ssl

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_CERTIFICATES = {  # X509_V_ERR_*
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed; {option} can name it",
    62: "is for another name than that in {place}",
    64: "is for another address than that in {place}",
}
_NOT_TRUSTED = (
    "is of an authority that is not trusted here, or an intermediate certificate is missing; {option} can name the "
    "authority"
)


def speaks_no_tls(error: ssl.SSLError) -> bool:
    """Whether the other side answered without TLS."""
    return getattr(error, "reason", None) in _NO_TLS  # an exception that Python did not make has no reason


def certificate_fault(error: ssl.SSLCertVerificationError, *, place: str, option: str) -> str:
    """What follows "The certificate". `place` has the host's name, and `option` adds authorities."""
    return _CERTIFICATES.get(getattr(error, "verify_code", 0), _NOT_TRUSTED).format(place=place, option=option)
