"""The knowledge of its file that a download has, and the changes that an answer may make to it."""

from dataclasses import replace

from fastlm.corpus.answer import Answer, Version


class BrokenOffError(Exception):
    """An attempt ended early for a reason that another attempt may not meet."""

    def __init__(self, message: str, *, keeps_part: bool = True) -> None:
        super().__init__(message)
        self.keeps_part = keeps_part


class KnownFile:
    """The version of the file that is being fetched, over all attempts of a call.

    A size that the server told holds until the server describes another version, by another ETag
    or Last-Modified: an answer of another size is asked for again, and refused if it stays so.

    Attributes:
        version: the version of the part's bytes.
        n_seen: most bytes that were received of it; it has no fewer.
        told_end: end of the last range, if the server told no size.
        has_begun: a body was begun before, so that connections are known to break.
        is_anew: the next request is for the whole file, since an answer was not the rest.
    """

    def __init__(self, expected_sha256: str | None, expected_bytes: int | None) -> None:
        self.expected_sha256, self.expected_bytes = expected_sha256, expected_bytes
        self.has_begun = self.is_anew = False
        self.forget()

    def forget(self) -> None:
        """Forget the version, whose bytes are removed."""
        self.version = Version()
        self.n_seen = 0
        self.told_end: int | None = None

    def begin(self, version: Version, n_bytes: int) -> bool:
        """Take over a part of an earlier call; return whether it can be continued."""
        self.version, self.n_seen = version, n_bytes
        self.has_begun = self.could_continue(n_bytes)
        return self.has_begun

    @property
    def size(self) -> int | None:
        return self.version.size if self.expected_bytes is None else self.expected_bytes

    def saw(self, n_bytes: int) -> None:
        """Note that the part has reached a size."""
        self.n_seen = max(self.n_seen, n_bytes)

    def could_continue(self, n_bytes: int) -> bool:
        """Return whether a part could be continued, and a rest of another version be detected."""
        is_of_size = 0 < n_bytes <= (n_bytes if self.size is None else self.size)
        return is_of_size and bool(self.version.validator() or self.expected_sha256)

    def can_continue(self, n_bytes: int) -> bool:
        """Return whether the rest of the part should be asked for now."""
        return not self.is_anew and self.could_continue(n_bytes)

    def asking_anew(self, reason: str, *, keeps_part: bool = True) -> BrokenOffError:
        """Return the error after which the whole file is asked for; the part stays until then."""
        self.is_anew = True
        return BrokenOffError(reason, keeps_part=keeps_part)

    def accept(self, answer: Answer, start: int) -> None:
        """Check the header of an answer, and renew what is known.

        Args:
            start: offset that was asked for.
        Raises:
            BrokenOffError: if its body is not to be used, and should be asked for again.
            ValueError: if it is not the expected file.
        """
        told = answer.version
        is_other = told.differs(self.version)
        is_other_size = told.size is not None and (
            told.size < self.n_seen or self.version.size not in (None, told.size)
        )
        if answer.first > start:
            raise self.asking_anew(f"the server sent bytes from {answer.first}, not from {start}")
        if answer.first and not self._is_of_part(told):
            # Some servers heed Range but not If-Range, which would join parts of two files.
            raise self.asking_anew("the server did not show that the file is unchanged")
        if start and is_other:
            raise self.asking_anew("the file changed on the server")
        if start and not answer.is_range and None in (told.size, self.version.size):
            # Some servers send the bytes asked for as if they were the whole file.
            raise self.asking_anew("the server did not tell the size of its answer")
        if is_other_size and not is_other:
            raise self.asking_anew(
                f"the server gave the file in two sizes, {self.version.size or self.n_seen} and "
                f"{told.size} bytes",
                keeps_part=bool(start) or not told.has_validator_of(self.version),
            )
        if None not in (told.size, self.expected_bytes) and told.size != self.expected_bytes:
            raise ValueError(f"expected {self.expected_bytes} bytes, the server has {told.size}")
        size = self.version.size if told.size is None and not is_other else told.size
        self._check_shows_its_end(answer, size)
        if is_other:
            self.n_seen = 0
        if not answer.first:
            self.is_anew = False
        self.version = replace(self.version if answer.first else told, size=size)
        self.told_end, self.has_begun = None, True

    def is_whole_after(self, answer: Answer, done: int) -> bool:
        """Return whether it is sure that the file is whole after a body that ended at `done`.

        Raises:
            BrokenOffError: if it is not whole.
        """
        limits = [limit for limit in (self.size, answer.end) if limit is not None]
        ended = f"the body ended at byte {done} of {self.size or answer.end}"
        if limits and done > min(limits):
            raise self.asking_anew(ended, keeps_part=False)
        if not limits and done < self.n_seen:
            raise self.asking_anew(f"the body ended at byte {done}, a body before it went further")
        if self.size is None and answer.is_range and done == answer.end:
            self.told_end = done
            raise BrokenOffError(f"the server did not tell whether the file ends at byte {done}")
        if limits and done < max(limits):
            raise BrokenOffError(ended)
        if limits or answer.shows_its_end or self.expected_sha256 is not None:
            return True
        if done == 0:
            raise BrokenOffError("the server closed the connection")
        return False

    def check_ends_at(self, start: int, told: Version, sha256: str) -> None:
        """Check that the part is whole after the server's word that nothing begins at its end.

        A part that broke off is not whole because the server, or a cache that kept no more of it,
        now says so: the size must be known from elsewhere, too.

        Args:
            sha256: hash of the part.
        Raises:
            BrokenOffError: if it may not be whole.
        """
        is_same = told.size in (None, start) and not told.differs(self.version)
        is_known = is_same and start in (self.size, self.told_end)
        if is_known or sha256 == self.expected_sha256:
            return
        raise self.asking_anew(
            f"the server gave the file in two sizes, {self.size or 'more'} and {start} bytes"
            if told.size == start
            else "the part was longer than the file"
        )

    def _is_of_part(self, told: Version) -> bool:
        """Return whether an answer is of the part's version, or the hash will show that."""
        if self.version.validator() is None:
            return self.expected_sha256 is not None and not told.differs(self.version)
        return told.has_validator_of(self.version)

    def _check_shows_its_end(self, answer: Answer, size: int | None) -> None:
        """Raise an error if nobody could tell the end of a body from a broken connection."""
        known = (size, self.expected_bytes, self.expected_sha256)
        if answer.shows_its_end or any(value is not None for value in known):
            return
        if answer.fault:
            raise ValueError(
                f"expected the number of bytes of the file, got {answer.fault}; try another "
                "mirror, or without a proxy"
            )
        if self.has_begun:
            # If it never tells it, a later call has to take such an answer as its first.
            reason = "the server did not tell the size of its answer"
            raise self.asking_anew(reason, keeps_part=False)
