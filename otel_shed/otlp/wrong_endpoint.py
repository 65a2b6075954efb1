"""What an HTTP answer tells of the endpoint: that a web page is there, or that it is elsewhere.

Owns nothing; values in, words out. The rule: what is not plainly a page is none, because a request whose answer is a
page counts as lost, and back ends confirm requests with all kinds of text.
"""

from __future__ import annotations

import html
import re
from urllib.parse import urljoin

from otel_shed.otlp.secrets import without_secrets

_HTML_TYPES = {"text/html", "application/xhtml+xml"}
# After a byte order mark, an XML declaration and comments, as browsers look for it.
_BEGINS_AS_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype\s+html|html|head|body|title)[\s/>]",
    re.IGNORECASE | re.DOTALL,
)
_TITLE = re.compile(rb"<title[^>]*>\s*([^<]+)", re.IGNORECASE)
_LOOKED_AT = 4096
_LONGEST_TITLE = 80
_REDIRECTS = frozenset({300, 301, 302, 303, 305, 307, 308})
# What gRPC says of an answer with an HTTP status of its own.
_GRPC_STATUS = re.compile(r"http2 header with status: ([0-9]{3})")


def html_page(content_type: str, body: bytes, *, whole: bool = True) -> str | None:
    """Words for the page that a body is; None if it is none. An empty body is none, if it is ``whole``."""
    if whole and not body:
        return None
    kind = content_type.partition(";")[0].strip()
    begins = body[:_LOOKED_AT]
    if kind not in _HTML_TYPES and not _BEGINS_AS_HTML.match(begins):
        return None
    title = _TITLE.search(begins)
    if title is None:
        return "an HTML page"
    words = " ".join(html.unescape(title[1].decode("utf-8", "replace")).split())
    return f'an HTML page, "{words[:_LONGEST_TITLE]}",' if words else "an HTML page"


def redirect(status: int, location: str | None, url: str) -> str | None:
    """Words for the redirect that an answer is; None if it is none. ``url``: what was asked, fit to be printed."""
    if status not in _REDIRECTS:
        return None
    target = "an address that it does not give"
    if location:
        try:
            target = without_secrets(urljoin(url, location.strip()))
        except ValueError:
            target = without_secrets(location)
    return f"a redirect, which is not followed, from {url} to {target}"


def grpc_redirect(details: str, target: str) -> str | None:
    """Words for the redirect that gRPC's details tell of; None if there is none. It keeps to itself where to."""
    status = _GRPC_STATUS.search(details)
    if status is None or int(status[1]) not in _REDIRECTS:
        return None
    return f"HTTP {status[1]}, a redirect, which is not followed, from {target} to an address that gRPC does not tell"
