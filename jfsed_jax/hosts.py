"""The processes of one run: which of them this is, what they tell each other, and their end.

A run on several hosts, or several processes of one, is one program on all of them. They share the
steps through JAX; what is decided outside of a step, such as to refuse a config or to stop, is told
through the service that ``jax.distributed`` runs beside process 0, and needs no device.
"""

import itertools
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jax

# What JAX's processes tell each other by, and how CPUs talk, has no public name.
from jax._src import distributed, xla_bridge
from jax._src.lib import _jax

from jfsed_jax.errors import InputError

LOST_AFTER = 20  # seconds without a sign of life after which JAX ends the other processes
_LOOKS_EVERY = 1.0  # seconds
_GRACE = 5.0  # seconds in which a process ends by itself, as where all refuse at once

Result = TypeVar("Result")


@dataclass(frozen=True)
class Hosts:
    """The processes of a run, seen from one of them.

    Attributes:
      index, count: which of how many this one is.
      prefix: of the run's keys in the service.
    """

    index: int = 0
    count: int = 1
    prefix: str = ""
    _rounds: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    @classmethod
    def here(cls) -> "Hosts":
        """Those of this process: after ``jax.distributed.initialize``, else it alone.

        Every process calls it once for each run, in the same order.
        """
        state = distributed.global_state
        if not joined() or state.num_processes == 1:
            return cls()
        number = _client().key_value_increment(f"jfsed_jax/runs/{state.process_id}", 1)
        return cls(state.process_id, state.num_processes, f"jfsed_jax/{number}")

    @property
    def several(self) -> bool:
        """Whether there is another process."""
        return self.count > 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.index == 0

    def gather(self, text: str) -> list[str]:
        """What each process gives, in the order of processes. All of them have to call it."""
        if not self.several:
            return [text]
        number, client = next(self._rounds), _client()
        client.key_value_set(f"{self.prefix}/{number}/{self.index}", text)
        found = [_waited_for(f"{self.prefix}/{number}/{i}") for i in range(self.count)]
        if number:  # whoever has come to this round has read the one before
            client.key_value_delete(f"{self.prefix}/{number - 1}/{self.index}")
        return found

    def agree(self, action: Callable[[], Result]) -> Result:
        """What `action` gives here, once it has succeeded in every process.

        Raises:
          InputError: its own where `action` raises one, another process's where one does there.
        """
        if not self.several:
            return action()
        error = None
        try:
            result = action()
        except InputError as raised:
            error = raised
        said = self.gather(json.dumps(None if error is None else f"{_me()}: {error}"))
        if error is not None:
            raise error
        for i, line in enumerate(map(json.loads, said)):
            if line is not None:
                raise InputError(f"process {i} has refused, and so do all: {line}")
        return result

    def in_turn(self, action: Callable[[], Result]) -> Result:
        """`agree`, the first process before the others: what it leaves on disk they find.

        `action` uses no device: JAX starts its backend in all processes at once.
        """
        result = self.agree(action if self.first else lambda: None)
        others = self.agree(lambda: result if self.first else action())
        return others  # type: ignore[return-value]  # of the first one it is `result`

    def check_same(self, values: dict[str, Any]) -> None:
        """Refuses, in every process, values that differ from the first one's; by their names."""
        everyone = [json.loads(text) for text in self.gather(json.dumps([_me(), values]))]
        (name_0, expected), *others = everyone
        for i, (name, found) in enumerate(others, start=1):
            keys = sorted(expected.keys() | found.keys())
            keys = [key for key in keys if found.get(key) != expected.get(key)]
            if keys:
                told = "; ".join(
                    f"{key} is {_short(expected.get(key))} there and {_short(found.get(key))} here"
                    for key in keys[:4]
                )
                raise InputError(
                    f"process {i} ({name}) has another config or other data than process 0 "
                    f"({name_0}): {told}; give all the same command and the same files"
                )

    def strongest(self, signum: int | None) -> int | None:
        """The signal that any process has had, if one has."""
        return max(map(int, self.gather(str(signum or 0)))) or None

    def split_of(self, batch: int, devices: Sequence[Any]) -> str:
        """In words: what a run computes on, and how the clips of a batch are split.

        Raises:
          InputError: JAX knows of other processes, or they have different numbers of devices.
        """
        counts = Counter(device.process_index for device in devices)
        if len(counts) != self.count:  # as on a slice of TPU hosts, which JAX joins by itself
            raise InputError(
                f"JAX has devices of {len(counts)} processes, and the run knows of {self.count}: "
                "give each --coordinator=auto, or call jax.distributed.initialize() before"
            )
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{counts[i]} of process {i}" for i in sorted(counts))
            raise InputError(
                f"the processes have different numbers of devices ({found}): let each use as many"
            )
        kind = f"{devices[0].platform} ({devices[0].device_kind})"
        share = f"{batch // len(devices)} of {batch} clips each"
        if not self.several:
            return f"{kind}: {len(devices)} devices, {share}"
        return (
            f"{kind}: {len(devices)} devices of {self.count} processes, {share}; this is process "
            f"{self.index} on {_me()} with {counts[self.index]} of them"
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Ends this process, with a line and status 2, when another one says that it has ended.

        It may be waiting for the other one in a step, which nothing interrupts.
        """
        if not self.several:
            yield
            return
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        except BaseException as error:
            if not hasattr(error, "signum"):  # of an agreed stop
                _tell(f"{self.prefix}/left/", self.index, str(error) or type(error).__name__)
            raise
        finally:
            done.set()

    @contextmanager
    def waits_for_reason(self, *errors: type[Exception]) -> Iterator[None]:
        """Holds back what another process's end may have caused, until that is told.

        Of such an end a process may see any error of a step, or of a save: those that are no
        `InputError`, and `errors`. Within this time the other says why, or JAX ends this one too.
        """
        try:
            yield
        except Exception as error:
            if self.several and (isinstance(error, errors) or not isinstance(error, InputError)):
                time.sleep(LOST_AFTER + _GRACE)
            raise

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(_LOOKS_EVERY):
            try:
                left = [
                    entry
                    for folder in (_LEFT, f"{self.prefix}/left/")
                    for entry in _client().key_value_dir_get(folder)
                ]
            except Exception:  # the service has ended, and JAX ends this process
                return
            for key, line in left:
                if (other := int(key.rsplit("/", 1)[1])) != self.index and not done.wait(_GRACE):
                    print(f"process {other} has ended: {line}", file=sys.stderr, flush=True)
                    _end(2)


ALONE = Hosts()
_LEFT = "jfsed_jax/left/"


def _client() -> Any:
    return distributed.global_state.client


def _waited_for(key: str) -> str:
    """The value of a key, however long it takes another process to set it."""
    while True:
        try:
            # In pieces, for no signal is heard within a call.
            return _client().blocking_key_value_get(key, 1000)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def _me() -> str:
    return socket.gethostname()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def leave(status: int, line: str) -> None:
    """Ends a process that is one of several, and tells the others why; of one alone, nothing.

    JAX would wait at the exit for those that are in a step.
    """
    state = distributed.global_state
    if not joined() or state.num_processes == 1:
        return
    _tell(_LEFT, state.process_id, line)
    # The service ends with process 0, and with the service everyone.
    until = time.monotonic() + 2 * _GRACE
    while state.process_id == 0 and time.monotonic() < until:
        if len(_client().key_value_dir_get(_LEFT)) == state.num_processes:
            break
        time.sleep(_LOOKS_EVERY / 4)
    _end(status)


def _tell(folder: str, index: int, line: str) -> None:
    with suppress(jax.errors.JaxRuntimeError):  # the service has ended
        _client().key_value_set(f"{folder}{index}", f"{_me()}: {line}", allow_overwrite=True)


def _end(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def sign_of_several(environment: dict[str, str] | os._Environ) -> str | None:
    """The variable by which a launcher that JAX knows says that it starts several processes."""
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        if environment.get(name, "1").isdecimal() and int(environment.get(name, "1")) > 1:
            return name
    return "TPU_WORKER_HOSTNAMES" if "," in environment.get("TPU_WORKER_HOSTNAMES", "") else None


def start(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Joins the processes of a run, before JAX starts its backend.

    Args:
      coordinator: HOST:PORT of process 0; None where JAX finds out by itself.
      count, index: how many processes, and which of them this is; likewise.

    Raises:
      InputError: they could not be joined.
    """
    # It would take SIGTERM, and tell nobody who does not ask it at every step.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, count, index, heartbeat_timeout_seconds=LOST_AFTER)
    except (RuntimeError, ValueError) as error:
        where = coordinator or "what the launcher says"
        reason = " ".join(str(error).split())
        raise InputError(
            f"the processes of the run could not be joined by {where} ({reason:.300}): give each "
            "of them --coordinator=HOST:PORT, which is process 0's, --num_processes and its own "
            "--process_id"
        ) from error
    _listen_where_others_reach()


def _listen_where_others_reach() -> None:
    """Has CPUs talk by the address that this process has towards process 0.

    Left alone gloo takes the one that the host's own name stands for, which in many an
    ``/etc/hosts`` is loopback's.
    """
    state = distributed.global_state
    assert state.coordinator_address is not None
    towards_0 = state.coordinator_address
    if state.process_id == 0 and state.num_processes > 1:
        # Its own name may stand for loopback here; what process 1 has found is another's address.
        towards_0 = f"{_waited_for('jfsed_jax/address/1')}:{towards_0.rpartition(':')[2]}"
    host, _, port = towards_0.rpartition(":")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as towards:
            towards.connect(address)  # which sends nothing
            own = towards.getsockname()[0]
    except OSError as error:
        raise InputError(
            f"no way from this process to the other one at {towards_0} ({error.strerror})"
        ) from error

    if state.process_id == 1:
        _client().key_value_set("jfsed_jax/address/1", own)

    def make_client() -> Any:
        collectives = _jax.make_gloo_tcp_collectives(distributed_client=state.client, hostname=own)
        return xla_bridge.make_cpu_client(collectives)

    xla_bridge.register_backend_factory("cpu", make_client, priority=0, fail_quietly=False)


def joined() -> bool:
    """Whether this process is one of those that `start` has joined."""
    return jax.distributed.is_initialized()
