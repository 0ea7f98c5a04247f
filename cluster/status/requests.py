"""Requests for the status page: what is one, and who gets what. Pure.

In this order: a request that is none is 400, one too long 431, anything but GET 405, another Host than this page's 421,
a missing or wrong token 403, an unknown path 404. So nothing is said to who has no token, not even what paths there
are; and a page of somebody else's, whose name leads to 127.0.0.1, reads nothing (DNS rebinding).
"""

from __future__ import annotations

import hmac
import re
from http import HTTPStatus
from typing import Final, NamedTuple

from kernelmill.cluster.status.page import STYLE_SUM

HEAD_BYTES_MAX: Final = 8192
_HEADERS_MAX: Final = 64
_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]{0,2047}) HTTP/1\.[01]")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([\x20-\x7e\x80-\xff\t]{0,4096}?)[ \t]*")
PAGE, JSON = "/", "/state.json"
TYPES: Final = {PAGE: "text/html; charset=utf-8", JSON: "application/json"}
_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        f"style-src '{STYLE_SUM}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: HTTPStatus


def path_asked(head: bytes, hosts: frozenset[bytes], token: bytes) -> str | Refusal:
    """The path that is asked for, PAGE or JSON, of a whole head without its empty line; or why not."""
    first, *lines = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    fields = [_HEADER.fullmatch(one) for one in lines]
    if line is None or len(fields) > _HEADERS_MAX or None in fields:
        return Refusal(HTTPStatus.BAD_REQUEST)
    named = [one[2].lower() for one in fields if one is not None and one[1].lower() == b"host"]
    if len(named) != 1:
        return Refusal(HTTPStatus.BAD_REQUEST)
    if line[1] != b"GET":
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED)
    if named[0] not in hosts:
        return Refusal(HTTPStatus.MISDIRECTED_REQUEST)
    path, _, query = line[2].partition(b"?")
    if not hmac.compare_digest(query, b"token=" + token):
        return Refusal(HTTPStatus.FORBIDDEN)
    return path.decode() if path.decode() in TYPES else Refusal(HTTPStatus.NOT_FOUND)


def response(status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> bytes:
    """An answer, after which the connection ends. Nothing of it is kept, framed, or given to other pages."""
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: DENY",
        "Referrer-Policy: no-referrer",
        "Cross-Origin-Resource-Policy: same-origin",
        f"Content-Security-Policy: {_POLICY}",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        head.append("Allow: GET")
    return "\r\n".join([*head, "", ""]).encode() + body


def refusal(status: HTTPStatus) -> bytes:
    """The answer to who gets nothing."""
    return response(status, f"{status.value} {status.phrase}\n".encode())
