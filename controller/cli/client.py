"""The daemon's socket, asked with the standard library's HTTP: it starts in milliseconds."""

from __future__ import annotations

import contextlib
import getpass
import grp
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from controller.cli.exits import Exit, Trouble
from controller.cli.meanings import refusal
from controller.cli.words import say

DEFAULT_SOCKET = "/run/vending-controller/control.sock"

TIMEOUT_S = 15.0
"""For one answer, or one line of a test vend: the daemon sends an empty line every 5 s there."""

MAX_ANSWER = 8 * 1024 * 1024
"""Bytes. The longest real answer, 500 orders, has some 200 KiB."""

MAX_LINE = 256 * 1024

FORBIDDEN = 403
NOT_FOUND = 404
EXIT_OF_STATUS: Mapping[int, Exit] = {
    400: Exit.USAGE,
    404: Exit.BAD_NEWS,
    405: Exit.USAGE,
    413: Exit.USAGE,
    500: Exit.BAD_NEWS,
    504: Exit.TIME_RAN_OUT,
}
"""Everything else that is no answer is a refusal."""


def path(*parts: str) -> str:
    """`/v1/…` of these parts, each quoted whole."""
    return "/v1/" + "/".join(quote(part, safe="", errors="replace") for part in parts)


class Daemon:
    """The daemon behind one socket; a connection per request. Raises Trouble."""

    def __init__(self, socket_path: str, timeout_s: float = TIMEOUT_S) -> None:
        self.socket_path = socket_path
        self.timeout_s = timeout_s

    def read(self, where: str, **query: object) -> dict[str, Any]:
        """GET: the answer's object."""
        given = {name: value for name, value in query.items() if value is not None}
        target = f"{where}?{urlencode(given)}" if given else where
        with self._asked("GET", target, None) as response:
            return self._answer(response)

    def act(self, where: str, **body: object) -> dict[str, Any]:
        """POST: the answer's object. Not found is a refusal here: nothing was done."""
        with self._asked("POST", where, body) as response:
            return self._answer(response, acting=True)

    def stream(self, where: str, **body: object) -> Iterator[dict[str, Any]]:
        """POST, answered line by line, as they come."""
        with self._asked("POST", where, body) as response:
            if response.status != http.client.OK:
                self._answer(response, acting=True)
            while text := response.readline(MAX_LINE):
                if text.strip():
                    yield _object(text)

    def lines(self, where: str, **query: object) -> Iterator[dict[str, Any]]:
        """GET, answered line by line, as they come; acts on nothing."""
        given = {name: value for name, value in query.items() if value is not None}
        with self._asked("GET", f"{where}?{urlencode(given)}", None) as response:
            if response.status != http.client.OK:
                self._answer(response)
            while text := response.readline(MAX_LINE):
                if text.strip():
                    yield _object(text)

    @contextlib.contextmanager
    def _asked(
        self, method: str, target: str, body: Mapping[str, object] | None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _UnixConnection(self.socket_path, self.timeout_s)
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if sent is not None else {}
        try:
            connection.connect()
        except OSError as error:
            raise unreachable(self.socket_path, error) from error
        try:
            connection.request(method, target, sent, headers)
            yield connection.getresponse()
        except TimeoutError as error:
            raise self._silence(method) from error
        except (OSError, http.client.HTTPException) as error:
            raise Trouble(
                Exit.UNREACHABLE,
                "connection_lost",
                say(
                    "The daemon closed the connection before its answer was complete "
                    "({error}). It may have stopped: systemctl status vending-controller",
                    error=type(error).__name__,
                ),
            ) from error
        finally:
            connection.close()

    def _answer(
        self, response: http.client.HTTPResponse, *, acting: bool = False
    ) -> dict[str, Any]:
        content = _object(response.read(MAX_ANSWER))
        if response.status == http.client.OK:
            return content
        exit_code = EXIT_OF_STATUS.get(response.status, Exit.REFUSED)
        if acting and response.status == NOT_FOUND:
            exit_code = Exit.REFUSED
        code = str(content.get("error", response.status))
        raise Trouble(exit_code, code, refusal(code, {"message": response.reason, **content}))

    def _silence(self, method: str) -> Trouble:
        doubt = say(" It may still have been done: look before you repeat it.")
        return Trouble(
            Exit.TIME_RAN_OUT,
            "timeout",
            say(
                "The daemon did not answer within {seconds:g} s.{doubt}",
                seconds=self.timeout_s,
                doubt=doubt if method == "POST" else "",
            ),
        )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, socket_path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


def _object(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Trouble(
            Exit.UNREACHABLE,
            "not_our_daemon",
            say("What answers on this socket is not the vending controller: check --socket"),
        )
    return content


def unreachable(socket_path: str, error: OSError) -> Trouble:
    """Which socket, why not, and what to do."""
    where = say("Cannot reach the daemon at {path}: ", path=socket_path)
    return Trouble(Exit.UNREACHABLE, "unreachable", where + _why(Path(socket_path), error))


def _why(socket_path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return say(
            "there is no such socket. Start the daemon (systemctl start vending-controller), "
            "or name the socket of its settings with --socket or VENDCTL_SOCKET"
        )
    if isinstance(error, ConnectionRefusedError):
        return say(
            "nobody listens there. The daemon stopped or is just starting: "
            "systemctl status vending-controller"
        )
    if isinstance(error, PermissionError):
        return _not_permitted(socket_path)
    if isinstance(error, TimeoutError | BlockingIOError):
        return say("it does not accept connections. Is it overloaded, or stopped by a debugger?")
    return say("{error}. Check the path", error=error.strerror or error)


def _not_permitted(socket_path: Path) -> str:
    user = _user()
    try:
        group = grp.getgrgid(socket_path.stat().st_gid).gr_name
    except PermissionError:
        return say(
            "{user} may not enter {directory}. Ask who administers this machine",
            user=user,
            directory=socket_path.parent,
        )
    except (OSError, KeyError):
        group = "vending"
    return say(
        "only root and the group {group} may, and {user} is not in it. "
        "Remedy: sudo usermod -aG {group} {user}, then log in again",
        group=group,
        user=user,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
