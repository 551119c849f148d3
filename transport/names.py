"""The addresses to which a host name resolves, looked up in a separate thread.

ZeroMQ would look names up in the thread that carries all outgoing traffic, where a name server that does not
answer would block everything.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from threading import Event, Thread

from onnxpuma.errors import ConfigError

REFRESH_SECONDS = 60.0  # while the connection is up
RETRY_SECONDS = 1.0  # while it is down

_ADDRESS = re.compile(r"tcp://(\[[^\]]+\]|[^\[\]:/\s]+):(\d{1,5})")


class Route:
    """The way to "tcp://host:port". Raises ConfigError for a malformed address."""

    def __init__(self, address: str) -> None:
        found = _ADDRESS.fullmatch(address)
        if found is None or not 0 < int(found[2]) < 1 << 16:
            raise ConfigError(f"{address} is not an address to connect to", 'write "tcp://host:port"')
        self.host, self._port = found[1].strip("[]"), int(found[2])
        # Numeric addresses in the order to try them, and why there are none. The thread replaces both.
        self.endpoints: tuple[str, ...] = ()
        self.error = ""
        self._closed, self._wanted = Event(), Event()
        try:
            ipaddress.ip_address(self.host.split("%")[0])
            self.endpoints = (endpoint(self.host, self._port),)
        except ValueError:
            Thread(target=self._follow, name=f"onnxpuma-name-{self.host}", daemon=True).start()

    def want(self) -> None:
        """Look the name up again soon, for want of a connection: it may lead elsewhere by now."""
        self._wanted.set()

    def close(self) -> None:
        """Stop looking; a query in progress is abandoned."""
        self._closed.set()
        self._wanted.set()

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                rows = socket.getaddrinfo(self.host, self._port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                self.error = f"the name {self.host} is not known: {getattr(error, 'strerror', None) or error}"
            else:
                rows.sort(key=lambda row: row[0] != socket.AF_INET)
                self.endpoints = tuple(dict.fromkeys(endpoint(str(r[4][0]), self._port) for r in rows))
                self.error = ""
            self._wanted.clear()
            if not self._closed.wait(RETRY_SECONDS) and self.endpoints:
                self._wanted.wait(REFRESH_SECONDS)

    def missing(self) -> str:
        """Why there is no endpoint; empty when there is one."""
        if self.endpoints:
            return ""
        return self.error or f"no name server has answered for {self.host}"


def endpoint(host: str, port: int) -> str:
    """The address of a host, or of an IP address, as ZeroMQ writes it."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
