"""The mock's own tokens: three bytes of UTF-8 each, the last of a text perhaps fewer.

So every text has token ids, and every token id a text, without a vocabulary. A chat has besides 4
marks for each message and 3 for the beginning of the answer, as a template would add.
"""

from collections.abc import Sequence

from ias_inference.domain.engines import Turn
from ias_inference.domain.errors import InvalidRequest

BYTES = 3
PER_MESSAGE = 4
PER_ANSWER = 3
_OFFSETS = (0, 0, 1 << 8, (1 << 8) + (1 << 16))
"""Where the ids of tokens with so many bytes begin."""
MARK = (1 << 8) + (1 << 16) + (1 << 24)
"""The id of a mark; it has no text."""


def count(text: str | Sequence[int]) -> int:
    """Tokens of a text, or of what is given as tokens already."""
    return -(-len(text.encode()) // BYTES) if isinstance(text, str) else len(text)


def count_chat(turns: Sequence[Turn]) -> int:
    """Tokens of a chat, its marks included."""
    return PER_ANSWER + sum(PER_MESSAGE + count(turn.text) for turn in turns)


def encode(text: str) -> list[int]:
    """The token ids of a text."""
    data = text.encode()
    pieces = (data[at : at + BYTES] for at in range(0, len(data), BYTES))
    return [_OFFSETS[len(piece)] + int.from_bytes(piece, "big") for piece in pieces]


def encode_chat(turns: Sequence[Turn]) -> list[int]:
    """The token ids of a chat."""
    ids: list[int] = []
    for turn in turns:
        ids += [MARK] * PER_MESSAGE + encode(turn.text)
    return ids + [MARK] * PER_ANSWER


def bytes_of(token: int, field: str) -> bytes:
    """What a token stands for. Raises InvalidRequest, naming the field, for one that is none."""
    if token == MARK:
        return b""
    for size in range(BYTES, 0, -1):
        if _OFFSETS[size] <= token < _OFFSETS[size] + (1 << 8 * size):
            return (token - _OFFSETS[size]).to_bytes(size, "big")
    raise InvalidRequest(field, f"Invalid value for '{field}': there is no token {token}.")


def decode(ids: Sequence[int], field: str = "tokens") -> str:
    """The text of token ids; bytes that are no UTF-8 become U+FFFD. Raises InvalidRequest."""
    return b"".join([bytes_of(token, field) for token in ids]).decode(errors="replace")


def texts_of(inputs: Sequence[str | Sequence[int]], field: str) -> list[str]:
    """The texts of a request's inputs. Raises InvalidRequest."""
    return [part if isinstance(part, str) else decode(part, field) for part in inputs]
