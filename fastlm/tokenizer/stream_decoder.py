"""Decoding of ids that come one by one, as a model generates them."""

import codecs
from typing import Literal

from fastlm.tokenizer.bpe.token_bytes import TokenBytes

DecodeErrors = Literal["replace", "strict", "ignore"]


def check_errors(errors: str) -> None:
    """Raise a ValueError unless errors is a value of DecodeErrors."""
    if errors not in ("replace", "strict", "ignore"):
        raise ValueError(f'errors must be "replace", "strict" or "ignore": got {errors!r}')


class StreamDecoder:
    """Decodes token ids one by one, and gives out whole characters only.

    The bytes of a character that a token begins and a later one ends are held back until then. All
    that is given out, one after another, is what Tokenizer.decode makes of all ids at once.

    >>> decoder = tokenizer.stream_decoder()
    >>> for token_id in generate(model, prompt_ids, max_tokens=100):
    ...     print(decoder.add(token_id), end="", flush=True)
    >>> print(decoder.end())
    """

    def __init__(
        self, token_bytes: TokenBytes, left_out: frozenset[int], errors: DecodeErrors = "replace"
    ) -> None:
        check_errors(errors)
        self._token_bytes, self._left_out = token_bytes, left_out
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)
        self._n_added = 0

    def add(self, token_id: int) -> str:
        """Return the characters that end with this token; often "", if it ends within one.

        Raises:
            TypeError, ValueError: as Tokenizer.decode does; with errors="strict" the decoder is as
                new afterwards.
        """
        text = self._decode(self._token_bytes.join([token_id], self._left_out), final=False)
        self._n_added += 1
        return text

    def end(self) -> str:
        """Return what is left of a character that no token has ended; then the decoder is as new.

        Raises:
            ValueError: if something is left and errors="strict".
        """
        text = self._decode(b"", final=True)
        self._reset()
        return text

    def _decode(self, data: bytes, *, final: bool) -> str:
        try:
            return self._decoder.decode(data, final)
        except UnicodeDecodeError:
            fault = "the last character has no end"
            if not final:
                fault = f"token number {self._n_added} neither ends nor begins a valid character"
            self._reset()
            raise ValueError(
                f"tokens must be UTF-8 text: {fault}; errors='replace' puts U+FFFD there"
            ) from None

    def _reset(self) -> None:
        self._decoder.reset()
        self._n_added = 0
