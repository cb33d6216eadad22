"""A disaggregated serving stack without a model: a router, and an engine for prefill and decode.

It moves what a real stack moves, and speaks as one does: OpenAI-style ``/v1/completions`` and
``/v1/chat/completions`` (streaming, too), ``/v1/models``, ``/health``, ``/metrics`` with the names
that vLLM gives the same counters, and the headers and fields of llm-d between the parts::

    client -> router            picks a prefill address, adds x-prefiller-host-port
           -> engine (decode)   sends the prefill leg: kv_transfer_params {do_remote_decode: true}
              -> engine (prefill)  derives the KV blocks, holds them, returns their address
              <- pulls the blocks from that address, verifies each, answers from their bytes

The KV cache has the size of a real one (layers, heads, head dimension, bytes per number, tokens).
Its bytes follow from the prompt and from a secret that only prefill pods mount, and the answer
follows from the bytes: an engine without the secret that got no transfer answers something else.

An engine does what it is asked for; which role it has follows from who asks it and whether it has
the secret. Without a prefill address it computes the blocks itself, as real engines do, and says so
in the header ``x-kar-kv-source``.

``python3 disagg_server.py router|engine``; settings by environment, see :func:`main`. Prints one
JSON object a line. SIGTERM ends it at once, or as soon as the requests in flight are answered.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

Json = dict[str, Any]

MODEL = "kar-probe"
PAGE = 1 << 16
WORDS = (
    *("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heron", "iris", "jade"),
    *("kelp", "larch", "maple", "nova", "opal", "pearl", "quartz", "raven", "sage", "topaz"),
    *("umber", "violet", "willow", "xenon", "yarrow", "zephyr", "birch", "coral", "dune", "fern"),
    *("gale", "hazel"),
)
"""What answers are made of: 32 words, so that 16 of them hold 80 bits of the KV bytes."""
STARTED = time.time()
CONNECT_SECONDS = 3.0
READ_SECONDS = 60.0
PULL_SECONDS = 10.0
"""How long a transfer may stand still before it counts as broken."""
HOLD_SECONDS = 60.0
DRAIN_SECONDS = 4.0
ATTEMPTS = 4

_lock = threading.Lock()
_busy = 0


def say(event: str, **more: Any) -> None:
    """Print one line about what happened, with the clock of this node in seconds."""
    line = json.dumps({"event": event, "at": round(time.time(), 4), **more})
    with _lock:
        print(line, flush=True)


def tell_request(phase: str, request_id: str, **more: Any) -> None:
    """Print what one phase did for one request, under the id that all phases share."""
    say("request", phase=phase, request_id=request_id, **more)


# -- the KV cache ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """The size of a KV cache: keys and values, in every layer, for every head of every token."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype_bytes: int
    block_tokens: int

    @property
    def token_bytes(self) -> int:
        """Bytes for one token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype_bytes

    def block_sizes(self, tokens: int) -> list[int]:
        """Return the bytes of each block; the last one may be shorter."""
        full, rest = divmod(tokens, self.block_tokens)
        return [self.block_tokens * self.token_bytes] * full + [rest * self.token_bytes] * bool(
            rest
        )


def block_keys(secret: bytes, tokens: Sequence[str], block_tokens: int) -> list[bytes]:
    """Return a key for each block; it depends on all tokens up to the block's last one."""
    keys: list[bytes] = []
    before = b""
    for start in range(0, len(tokens), block_tokens):
        text = " ".join(tokens[start : start + block_tokens]).encode()
        before = hmac.digest(secret, before + text, "sha256")
        keys.append(before)
    return keys


def derive_block(key: bytes, size: int) -> bytes:
    """Return ``size`` bytes that nobody can tell without the key.

    One page comes from SHAKE-128, the rest are its rotations: as fast as copying memory.
    """
    page = hashlib.shake_128(key).digest(PAGE)
    turns = struct.unpack(f">{PAGE // 2}H", page)
    parts = [page]
    for number in range(1, -(-size // PAGE)):
        turn = turns[number]
        parts += (page[turn:], page[:turn])
    return b"".join(parts)[:size]


class Reader:
    """What a decode keeps of the blocks that it reads: everything that its answer depends on."""

    def __init__(self) -> None:
        self._state = b"\0" * 32

    def read(self, block: bytes | bytearray | memoryview) -> None:
        """Take in one block, all of its bytes, in order."""
        seen = hashlib.sha256(self._state)
        seen.update(block)
        self._state = seen.digest()

    def words(self, count: int) -> list[str]:
        """Return the answer."""
        return [
            WORDS[hashlib.sha256(self._state + struct.pack(">I", number)).digest()[0] % len(WORDS)]
            for number in range(count)
        ]


# -- counters -------------------------------------------------------------------------------


class Metrics:
    """Counters in the Prometheus text format. Thread-safe."""

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels
        self._values: dict[tuple[str, str], float] = defaultdict(float)

    def add(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to a counter or gauge."""
        text = ",".join(f'{key}="{one}"' for key, one in {**self._labels, **labels}.items())
        with _lock:
            self._values[name, text] += value

    def observe(self, name: str, value: float) -> None:
        """Add a value to a histogram with one bucket."""
        self.add(f"{name}_bucket", le="+Inf")
        self.add(f"{name}_sum", value)
        self.add(f"{name}_count")

    def text(self) -> str:
        """Return all of them."""
        with _lock:
            lines = [
                f"{name}{{{labels}}} {one:.17g}" for (name, labels), one in self._values.items()
            ]
        return "\n".join([*sorted(lines), f"process_start_time_seconds {STARTED:.3f}", ""])


# -- HTTP -----------------------------------------------------------------------------------


class RefusedError(Exception):
    """An answer that is an error: HTTP status, a code, and a sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Server(ThreadingHTTPServer):
    """Takes both address families and many connections at once."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        try:
            self.address_family = socket.AF_INET6
            super().__init__(("", port), handler)
        except OSError:  # a kernel without IPv6
            self.address_family = socket.AF_INET
            super().__init__(("", port), handler)

    def server_bind(self) -> None:
        """Listen on IPv4, too."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = MODEL, self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell that a connection broke, as a line like every other."""
        say("connection_broke", error=repr(sys.exception())[:200])


class Handler(BaseHTTPRequestHandler):
    """What router and engine have in common. Each answer closes its connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing; what matters is logged with its request id."""

    def body(self) -> Json:
        """Read the request's body."""
        try:
            found = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        except ValueError as error:
            raise RefusedError(400, "bad_request", "the body is not JSON") from error
        if not isinstance(found, dict):
            raise RefusedError(400, "bad_request", "the body is not a JSON object")
        return cast("Json", found)

    def answer(
        self, content: Json | str, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Send a whole answer."""
        plain = isinstance(content, str)
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.head(status, "text/plain" if plain else "application/json", headers)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def head(self, status: int, content_type: str, headers: dict[str, str] | None = None) -> None:
        """Begin an answer."""
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            self.send_header(name, value)

    def refuse(self, error: RefusedError, headers: dict[str, str] | None = None) -> None:
        """Send an error as OpenAI's API has it."""
        told = {"message": str(error), "type": "kar_probe_error", "code": error.code}
        self.answer({"error": told}, error.status, headers)


class Busy:
    """Counts requests in flight, so that a server that is told to go finishes them."""

    def __enter__(self) -> None:
        global _busy
        with _lock:
            _busy += 1

    def __exit__(self, *_: object) -> None:
        global _busy
        with _lock:
            _busy -= 1


def connect(address: str, read_seconds: float = READ_SECONDS) -> http.client.HTTPConnection:
    """Return an open connection to ``host:port``.

    Raises:
        OSError: nobody answers there.
    """
    host, _, port = address.rpartition(":")
    found = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=CONNECT_SECONDS)
    found.connect()
    cast("socket.socket", found.sock).settimeout(read_seconds)
    return found


def joined(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- the engine -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """The KV blocks of one request, until a decode has pulled them."""

    request_id: str
    blocks: list[bytes]
    until: float
    pause: float
    """Seconds between two blocks: makes a transfer long enough to be interrupted."""


class Engine:
    """Computes KV blocks, hands them over, pulls them, and answers from them."""

    def __init__(self) -> None:
        env = os.environ
        self.pod = env.get("KAR_POD", socket.gethostname())
        self.node = env.get("KAR_NODE", "")
        self.shape = Shape(
            *(
                int(env[f"KAR_{name}"])
                for name in ("LAYERS", "KV_HEADS", "HEAD_DIM", "DTYPE_BYTES", "BLOCK_TOKENS")
            )
        )
        self.kv_port = int(env.get("KAR_KV_PORT", "5600"))
        self.token_seconds = float(env.get("KAR_TOKEN_SECONDS", "0"))
        self.engine_id = str(uuid.uuid4())
        interface = env.get("KAR_INTERFACE", "")
        self.host = address_of(interface) if interface else env.get("KAR_POD_IP", "127.0.0.1")
        secret = Path(env.get("KAR_SECRET", "/secret/key"))
        self.secret = secret.read_bytes() if secret.exists() else b""
        self.metrics = Metrics({"model_name": MODEL, "engine": "0"})
        for name in ("kar:kv_bytes_sent_total", "vllm:nixl_num_failed_transfers_total"):
            self.metrics.add(name, 0)  # a counter that is not there would be missing, not 0
        for name in ("vllm:nixl_bytes_transferred", "vllm:nixl_xfer_time_seconds"):
            for part in ("sum", "count"):
                self.metrics.add(f"{name}_{part}", 0)
        for source in ("local_compute", "local_cache_hit", "external_kv_transfer"):
            self.metrics.add("vllm:prompt_tokens_by_source_total", 0, source=source)
        self._held: dict[str, Held] = {}
        # Each request that waits for its decode keeps its whole cache in memory.
        self._room = threading.BoundedSemaphore(int(env.get("KAR_HELD", "4")))

    def blocks(self, tokens: Sequence[str]) -> Iterator[bytes]:
        """Compute the KV blocks of a prompt."""
        keys = block_keys(self.secret, tokens, self.shape.block_tokens)
        for key, size in zip(keys, self.shape.block_sizes(len(tokens)), strict=True):
            yield derive_block(key, size)

    # -- as prefill --

    def prefill(self, request_id: str, tokens: list[str], fault: Json) -> Json:
        """Compute the blocks, hold them, and return where they can be pulled."""
        began = time.monotonic()
        self._sweep()
        if not self._room.acquire(timeout=READ_SECONDS / 2):
            raise RefusedError(503, "no_room", "no room for another KV cache")
        waited = time.monotonic() - began
        blocks = list(self.blocks(tokens))
        digests = [hashlib.sha256(one).hexdigest() for one in blocks]
        if "corrupt_block" in fault:  # what a bad link does: the hash is that of the good block
            number = int(fault["corrupt_block"]) % len(blocks)
            spoiled = bytearray(blocks[number])
            spoiled[len(spoiled) // 2] ^= 1
            blocks[number] = bytes(spoiled)
        handle = str(uuid.uuid4())
        pause = float(fault.get("pause_seconds", 0))
        with _lock:
            until = time.monotonic() + HOLD_SECONDS
            self._held[handle] = Held(request_id, blocks, until, pause)
        self.metrics.add("vllm:prompt_tokens_total", len(tokens))
        self.metrics.add("vllm:prompt_tokens_by_source_total", len(tokens), source="local_compute")
        self.metrics.add("vllm:request_success_total", finished_reason="length")
        tell_request(
            "prefill",
            request_id,
            pod=self.pod,
            node=self.node,
            tokens=len(tokens),
            blocks=len(blocks),
            bytes=sum(map(len, blocks)),
            sha256=hashlib.sha256("".join(digests).encode()).hexdigest(),
            wait_seconds=round(waited, 4),
            seconds=round(time.monotonic() - began, 4),
        )
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_engine_id": self.engine_id,
            "remote_request_id": handle,
            "remote_block_ids": list(range(len(blocks))),
            "remote_block_sha256": digests,
            "remote_host": self.host,
            "remote_port": self.kv_port,
            "tp_size": 1,
        }

    def _sweep(self) -> None:
        """Let go what no decode came for."""
        with _lock:
            late = [key for key, one in self._held.items() if one.until < time.monotonic()]
            for key in late:
                del self._held[key]
        for _ in late:
            self._room.release()

    def take(self, handle: str) -> Held | None:
        """Return the blocks of a request, once."""
        with _lock:
            found = self._held.pop(handle, None)
        if found:
            self._room.release()
        return found

    # -- as decode --

    def ask_prefill(self, address: str, path: str, request_id: str, body: Json) -> Json:
        """Send the prefill leg, and return where the blocks are.

        Raises:
            RefusedError: no prefill answered, or it refused.
        """
        leg = {key: value for key, value in body.items() if key != "stream_options"}
        leg |= {"stream": False, "max_tokens": 1, "max_completion_tokens": 1}
        leg["kv_transfer_params"] = {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "remote_engine_id": None,
            "remote_block_ids": None,
            "remote_host": None,
            "remote_port": None,
        }
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        try:
            connection = connect(address)
            try:
                connection.request("POST", path, json.dumps(leg), headers)
                response = connection.getresponse()
                answer: Json = json.loads(response.read())
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise RefusedError(
                502, "prefill_unreachable", f"no prefill at {address}: {error}"
            ) from error
        if response.status != 200:
            told = (answer.get("error") or {}).get("message", "")
            raise RefusedError(502, "prefill_failed", f"prefill said {response.status}: {told}")
        return cast("Json", answer["kv_transfer_params"])

    def pull(self, tokens: int, params: Json, reader: Reader) -> int:
        """Pull every block, verify it and read it; returns how many bytes came.

        Raises:
            RefusedError: blocks are missing, or one is not what prefill computed.
        """
        sizes = self.shape.block_sizes(tokens)
        digests = cast("list[str]", params["remote_block_sha256"])
        if len(digests) != len(sizes):
            raise RefusedError(
                502, "kv_truncated", f"{len(digests)} blocks are offered, {len(sizes)} are needed"
            )
        address = joined(str(params["remote_host"]), int(params["remote_port"]))
        buffer = memoryview(bytearray(max(sizes)))
        got = 0
        try:
            connection = connect(address, PULL_SECONDS)
            try:
                connection.request("GET", f"/kv/{params['remote_request_id']}")
                response = connection.getresponse()
                if response.status != 200:
                    raise RefusedError(502, "kv_gone", f"{address} does not hold these blocks")
                for number, (size, digest) in enumerate(zip(sizes, digests, strict=True)):
                    block = buffer[:size]
                    have = 0
                    while have < size and (count := response.readinto(block[have:])):
                        have += count
                        got += count
                    if have < size:
                        raise RefusedError(
                            502,
                            "kv_truncated",
                            f"it ended in block {number} of {len(sizes)}, after {got} bytes",
                        )
                    if hashlib.sha256(block).hexdigest() != digest:
                        raise RefusedError(
                            502, "kv_corrupted", f"block {number} is not what prefill computed"
                        )
                    reader.read(block)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise RefusedError(
                502, "kv_transfer_failed", f"the transfer from {address} broke: {error}"
            ) from error
        return got

    def fill(
        self, request_id: str, tokens: list[str], prefiller: str, path: str, body: Json
    ) -> tuple[Reader, str, Json]:
        """Get the KV cache of a prompt; returns its reader, its source and how long what took.

        Raises:
            RefusedError: it was to come from prefill, and did not, or not as prefill computed it.
        """
        reader = Reader()
        began = time.monotonic()
        params = cast("Json", body.get("kv_transfer_params") or {})
        if not prefiller and not params.get("do_remote_prefill"):
            for block in self.blocks(tokens):
                reader.read(block)
            self.metrics.add(
                "vllm:prompt_tokens_by_source_total", len(tokens), source="local_compute"
            )
            return reader, "local_compute", {"local_seconds": time.monotonic() - began}
        if prefiller:
            params = self.ask_prefill(prefiller, path, request_id, body)
        asked = time.monotonic()
        say("transfer_began", request_id=request_id, pod=self.pod)
        try:
            got = self.pull(len(tokens), params, reader)
        except RefusedError:
            self.metrics.add("vllm:nixl_num_failed_transfers_total")
            raise
        took = time.monotonic() - asked
        self.metrics.observe("vllm:nixl_bytes_transferred", got)
        self.metrics.observe("vllm:nixl_xfer_time_seconds", took)
        self.metrics.add(
            "vllm:prompt_tokens_by_source_total", len(tokens), source="external_kv_transfer"
        )
        times = {
            "bytes": got,
            "prefill_seconds": round(asked - began, 4),
            "transfer_seconds": round(took, 4),
            "peer": str(params["remote_host"]),
        }
        return reader, "external_kv_transfer", times


def address_of(interface: str) -> str:
    """Return the IPv4 address of a network interface.

    Raises:
        OSError: there is no such interface, or it has none.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        siocgifaddr = 0x8915
        found = fcntl.ioctl(one, siocgifaddr, struct.pack("256s", interface.encode()[:15]))
    return socket.inet_ntoa(found[20:24])


def prompt_of(path: str, body: Json) -> str:
    """Return the text of a request.

    Raises:
        RefusedError: it has none.
    """
    if path == "/v1/completions" and isinstance(body.get("prompt"), str):
        return str(body["prompt"])
    messages = body.get("messages")
    if path == "/v1/chat/completions" and isinstance(messages, list):
        told = [str(cast("Json", one).get("content", "")) for one in messages]
        return "\n".join(told)
    raise RefusedError(400, "bad_request", "the request has no prompt")


def engine_handler(engine: Engine) -> type[Handler]:
    """Return the handler of the serving port."""

    class Serving(Handler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self.answer("ok\n")
            elif self.path == "/metrics":
                self.answer(engine.metrics.text())
            elif self.path == "/v1/models":
                self.answer({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            elif self.path == "/version":
                self.answer({"version": MODEL})
            else:
                self.refuse(RefusedError(404, "not_found", f"there is no {self.path}"))

        def do_POST(self) -> None:
            with Busy():
                request_id = self.headers.get("X-Request-Id") or str(uuid.uuid4())
                try:
                    self._serve(request_id)
                except RefusedError as error:
                    tell_request(
                        "error",
                        request_id,
                        pod=engine.pod,
                        node=engine.node,
                        code=error.code,
                        message=str(error),
                    )
                    self.refuse(error, {"X-Request-Id": request_id, "X-Inference-Pod": engine.pod})

        def _serve(self, request_id: str) -> None:
            began = time.monotonic()
            body = self.body()
            tokens = prompt_of(self.path, body).split()
            if not tokens:
                raise RefusedError(400, "bad_request", "the prompt is empty")
            params = cast("Json", body.get("kv_transfer_params") or {})
            if params.get("do_remote_decode"):
                fault = cast("Json", body.get("kar_fault") or {})
                given = engine.prefill(request_id, tokens, fault)
                words = [""]
                self.answer(
                    {**_whole(self.path, request_id, words, tokens), "kv_transfer_params": given}
                )
                return
            prefiller = self.headers.get("X-Prefiller-Host-Port", "")
            reader, source, times = engine.fill(request_id, tokens, prefiller, self.path, body)
            words = reader.words(int(body.get("max_tokens") or 16))
            engine.metrics.add("vllm:prompt_tokens_total", len(tokens))
            filled = time.monotonic() - began
            headers = {
                "X-Request-Id": request_id,
                "X-Inference-Pod": engine.pod,
                "X-Kar-Kv-Source": source,
            }
            engine.metrics.add("vllm:generation_tokens_total", len(words))
            engine.metrics.add("vllm:request_success_total", finished_reason="length")

            def tell() -> None:
                """Log it before the client knows that it is done: nobody looks too early."""
                tell_request(
                    "decode",
                    request_id,
                    pod=engine.pod,
                    node=engine.node,
                    tokens=len(tokens),
                    source=source,
                    **times,
                    filled_seconds=round(filled, 4),
                    seconds=round(time.monotonic() - began, 4),
                )

            if body.get("stream"):
                self._stream(request_id, words, headers, tell)
            else:
                time.sleep(engine.token_seconds * len(words))
                tell()
                self.answer(_whole(self.path, request_id, words, tokens), headers=headers)

        def _stream(
            self,
            request_id: str,
            words: list[str],
            headers: dict[str, str],
            tell: Callable[[], None],
        ) -> None:
            self.head(200, "text/event-stream", {"Cache-Control": "no-cache", **headers})
            self.end_headers()
            for number, word in enumerate(words):
                time.sleep(engine.token_seconds)
                last = number == len(words) - 1
                chunk = _chunk(self.path, request_id, (" " if number else "") + word, last)
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()
            tell()
            self.wfile.write(b"data: [DONE]\n\n")

    return Serving


def _whole(path: str, request_id: str, words: list[str], tokens: list[str]) -> Json:
    text = " ".join(words)
    chat = path.endswith("chat/completions")
    choice: Json = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    return {
        "id": ("chatcmpl-" if chat else "cmpl-") + request_id,
        "object": "chat.completion" if chat else "text_completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, **choice, "finish_reason": "length"}],
        "usage": {
            "prompt_tokens": len(tokens),
            "completion_tokens": len(words),
            "total_tokens": len(tokens) + len(words),
        },
    }


def _chunk(path: str, request_id: str, text: str, last: bool) -> Json:
    chat = path.endswith("chat/completions")
    choice: Json = {"delta": {"content": text}} if chat else {"text": text}
    return {
        "id": ("chatcmpl-" if chat else "cmpl-") + request_id,
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, **choice, "finish_reason": "length" if last else None}],
    }


def kv_handler(engine: Engine) -> type[Handler]:
    """Return the handler of the port that hands KV blocks over."""

    class HandingOver(Handler):
        def do_GET(self) -> None:
            held = engine.take(self.path.removeprefix("/kv/"))
            if held is None:
                self.refuse(RefusedError(404, "kv_gone", "no such blocks are held here"))
                return
            with Busy():
                began = time.monotonic()
                sent = 0
                self.head(200, "application/octet-stream")
                self.send_header("Content-Length", str(sum(map(len, held.blocks))))
                self.end_headers()
                try:
                    for block in held.blocks:
                        self.wfile.write(block)
                        sent += len(block)
                        if held.pause:
                            time.sleep(held.pause)
                finally:
                    engine.metrics.add("kar:kv_bytes_sent_total", sent)
                    tell_request(
                        "handover",
                        held.request_id,
                        pod=engine.pod,
                        node=engine.node,
                        bytes=sent,
                        seconds=round(time.monotonic() - began, 4),
                    )

    return HandingOver


# -- the router -----------------------------------------------------------------------------


def router_handler(prefill: str, decode: str, pod: str, node: str) -> type[Handler]:
    """Return the handler of a router between one address for prefill and one for decode."""
    metrics = Metrics({})

    class Routing(Handler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self.answer("ok\n")
            elif self.path == "/metrics":
                self.answer(metrics.text())
            else:
                self._forward(b"")

        def do_POST(self) -> None:
            with Busy():
                self._forward(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def _forward(self, body: bytes) -> None:
            began = time.monotonic()
            request_id = (
                self.headers.get("X-Kar-Request-Id")
                or self.headers.get("X-Request-Id")
                or str(uuid.uuid4())
            )
            headers = {
                "Content-Type": self.headers.get("Content-Type") or "application/json",
                "X-Request-Id": request_id,
            }
            if body:
                headers["X-Prefiller-Host-Port"] = prefill
            try:
                connection, attempts = self._reach()
                reached = time.monotonic() - began
                connection.request(self.command, self.path, body or None, headers)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                told = RefusedError(502, "decode_unreachable", f"no decode: {error}")
                tell_request("error", request_id, pod=pod, code=told.code, message=str(told))
                self.refuse(told, {"X-Request-Id": request_id})
                return
            try:
                self._pass_on(response)
            finally:
                connection.close()
            metrics.add(
                "kar:requests_total", decision="prefill-decode", status=str(response.status)
            )
            tell_request(
                "route",
                request_id,
                pod=pod,
                node=node,
                status=response.status,
                prefiller=prefill,
                attempts=attempts,
                reached_seconds=round(reached, 4),
                seconds=round(time.monotonic() - began, 4),
            )

        def _reach(self) -> tuple[http.client.HTTPConnection, int]:
            """Connect; a pod that is going may still be among the Service's for a moment."""
            for attempt in range(1, ATTEMPTS):
                try:
                    return connect(decode), attempt
                except OSError:
                    time.sleep(0.2)
            return connect(decode), ATTEMPTS

        def _pass_on(self, response: http.client.HTTPResponse) -> None:
            self.close_connection = True
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("date", "server", "connection"):
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while part := response.read1(65536):
                self.wfile.write(part)

    return Routing


# -- start and end --------------------------------------------------------------------------


def go(*_: object) -> None:
    """End on SIGTERM: at once if nothing is in flight, else when it is answered."""

    def leave() -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while _busy and time.monotonic() < deadline:
            time.sleep(0.02)
        os.write(1, b'{"event": "told_to_go"}\n')
        os._exit(143)

    threading.Thread(target=leave, daemon=True).start()


def main(argv: Sequence[str]) -> int:
    """Run a router or an engine until SIGTERM.

    Both: ``KAR_PORT``, ``KAR_POD``, ``KAR_NODE``. Router: ``KAR_PREFILL`` and ``KAR_DECODE``
    (``host:port``). Engine: ``KAR_LAYERS``, ``KAR_KV_HEADS``, ``KAR_HEAD_DIM``,
    ``KAR_DTYPE_BYTES``, ``KAR_BLOCK_TOKENS``, ``KAR_KV_PORT``, ``KAR_POD_IP`` or ``KAR_INTERFACE``
    (where blocks are handed over), ``KAR_SECRET`` (a file, there or not), ``KAR_HELD`` (requests
    whose blocks may wait at once), ``KAR_TOKEN_SECONDS`` (pace of an answer's words).
    """
    role = argv[1] if len(argv) == 2 else ""
    signal.signal(signal.SIGTERM, go)
    env = os.environ
    port = int(env.get("KAR_PORT", "8000"))
    if role == "router":
        pod, node = env.get("KAR_POD", ""), env.get("KAR_NODE", "")
        handler = router_handler(env["KAR_PREFILL"], env["KAR_DECODE"], pod, node)
    elif role == "engine":
        engine = Engine()
        handler = engine_handler(engine)
        blocks = Server(engine.kv_port, kv_handler(engine))
        threading.Thread(target=blocks.serve_forever, daemon=True).start()
        say("engine", host=engine.host, kv_port=engine.kv_port, keyed=bool(engine.secret))
    else:
        print("usage: disagg_server.py router|engine", file=sys.stderr)
        return 2
    with Server(port, handler) as server:
        say("started", role=role, port=port)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
