"""Splits a URL into the parts that a request needs.

Shared: the planner refuses URLs that the agent could not request.
"""

from typing import NamedTuple

PORTS = {"http": 80, "https": 443}


class UrlParts(NamedTuple):
    """Where to connect, and what to request."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, as the request line has them."""

    @property
    def host_header(self) -> str:
        """Return the Host of a request: the port only if it is not the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def split_url(url: str) -> UrlParts:
    """Return the parts of a URL. Raises: ValueError with a reason for a person.

    An IPv6 address need not be in brackets: `http://${{ ...ip_address }}:8000` is written for addresses of
    both kinds.
    """
    from urllib.parse import quote, urlsplit  # loads in 5 ms, which only tasks with such a probe should pay

    if any(ord(character) <= 32 or ord(character) == 127 for character in url):
        raise ValueError("contains a space or control character")
    parts = urlsplit(url)
    if parts.netloc.count(":") > 1 and "[" not in parts.netloc:
        parts = parts._replace(netloc=_bracketed(parts.netloc))
    if parts.scheme not in PORTS:
        raise ValueError("is not an http:// or https:// URL")
    if not parts.hostname:
        raise ValueError("names no host")
    if "@" in parts.netloc:
        raise ValueError("contains a user: write an Authorization header")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError("has no valid port") from error
    if port == 0:
        raise ValueError("has no valid port")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~-._[]")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    return UrlParts(
        parts.scheme, host, port or PORTS[parts.scheme], f"{path}?{query}" if parts.query else path
    )


def _bracketed(netloc: str) -> str:
    """Return an IPv6 address, with a port or without, in brackets as a URL needs it; other text unchanged."""
    from ipaddress import AddressValueError, IPv6Address

    address, _, port = netloc.rpartition(":")
    for host, rest in ((address, f":{port}"), (netloc, "")):
        try:
            IPv6Address(host)
        except AddressValueError:
            continue
        return f"[{host}]{rest}"
    return netloc
