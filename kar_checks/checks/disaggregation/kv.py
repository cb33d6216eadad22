"""What the probe workload must answer, worked out a second time, apart from its program.

The state of a request is a list of KV blocks, whose bytes follow from the prompt and a secret; the
answer follows from the bytes. A unit test holds this and ``probes/disagg_server.py`` together.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import struct
from collections.abc import Iterator

from kar_checks.model import Record

_PAGE = 1 << 16
_WORDS = (
    *("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heron", "iris", "jade"),
    *("kelp", "larch", "maple", "nova", "opal", "pearl", "quartz", "raven", "sage", "topaz"),
    *("umber", "violet", "willow", "xenon", "yarrow", "zephyr", "birch", "coral", "dune", "fern"),
    *("gale", "hazel"),
)


class Shape(Record):
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


def prompt(request_id: str, tokens: int) -> list[str]:
    """Return the words that the client sends under this id."""
    words = [request_id]
    for number in itertools.count():
        if len(words) >= tokens:
            break
        digest = hashlib.sha256(f"{request_id}/{number}".encode()).hexdigest()
        words += [digest[start : start + 4] for start in range(0, 64, 4)]
    return words[:tokens]


def expected(secret: str, request_id: str, tokens: int, shape: Shape, words: int) -> str:
    """Return the right answer to a request: what nobody can tell who did not read its state."""
    state = b"\0" * 32
    for block in _blocks(secret.encode(), prompt(request_id, tokens), shape):
        seen = hashlib.sha256(state)
        seen.update(block)
        state = seen.digest()
    digests = (hashlib.sha256(state + struct.pack(">I", number)) for number in range(words))
    return " ".join(_WORDS[one.digest()[0] % len(_WORDS)] for one in digests)


def _blocks(secret: bytes, tokens: list[str], shape: Shape) -> Iterator[bytes]:
    key = b""
    for start in range(0, len(tokens), shape.block_tokens):
        part = tokens[start : start + shape.block_tokens]
        key = hmac.digest(secret, key + " ".join(part).encode(), "sha256")
        size = len(part) * shape.token_bytes
        page = hashlib.shake_128(key).digest(_PAGE)
        turns = struct.unpack(f">{_PAGE // 2}H", page)
        turned = (page[turns[at] :] + page[: turns[at]] for at in range(1, -(-size // _PAGE)))
        yield b"".join([page, *turned])[:size]
