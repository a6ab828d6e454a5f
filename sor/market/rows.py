"""A file with a row a line, read into columns."""

from __future__ import annotations

from collections.abc import Iterator

from sor.errors import DataError, LeftOut, StreamError
from sor.market.columns import ROWS, Batch, Columns
from sor.market.formats import LEARNED, MARK, Format, first_rows_refused, is_whole
from sor.market.instruments import SHARES, Instruments
from sor.market.lines import Blocks, unfinished
from sor.market.packed import Unpacked
from sor.market.update import Tally
from sor.market.venues import VenueDirectory

BLOCK = 2**18  # bytes read at a time


def read_rows(
    file: Unpacked,
    form: Format,
    depth: int,
    tally: Tally,
    most: int = ROWS,
    instruments: Instruments = SHARES,
    directory: VenueDirectory | None = None,
) -> Iterator[Batch]:
    """The rows of a file, at most ``most`` in a batch, as its format's decoder gives them.

    Sizes are in lots only where the format has decimals; the directory is for those that name venues.

    Raises
    ------
    InputError
        The header, or the first row, is of another schema.
    StreamError
        The file cannot be read on; all rows before that have been given.
    """
    reader = _Reader(file, form, depth, tally, most, instruments if form.decimals else SHARES, directory)
    failure: StreamError | None = None
    try:
        for block in reader.blocks:
            yield from reader.read(block)
    except StreamError as error:
        failure = error
    if reader.columns.rows:
        yield reader.columns.take()
    if failure is not None:
        raise failure


class _Reader:
    """What stands between the lines of a file and the rows of a batch."""

    def __init__(
        self,
        file: Unpacked,
        form: Format,
        depth: int,
        tally: Tally,
        most: int,
        instruments: Instruments,
        directory: VenueDirectory | None,
    ) -> None:
        self.blocks = Blocks(file, BLOCK)
        self.columns = Columns(depth, most)
        self._form = form
        self._tally = tally
        self._line = 0  # of those that have been read
        lines = self.blocks.ahead(LEARNED + form.has_header)
        try:
            first = lines[0].removeprefix(MARK)
            self._decoder = form.decoder_of(
                first, depth, directory, events=True, receipts=True, instruments=instruments
            )
            self._decoder.learn(lines[form.has_header :])
        except DataError as error:
            raise first_rows_refused(file.path, form, error, False) from None
        self._quick = None if form.quick is None else form.quick(self._decoder, self.columns)

    def read(self, block: bytes) -> Iterator[Batch]:
        """Add the rows of whole lines; a batch each time that the columns are full."""
        at = self._begin(block) if block and not self._line else 0
        while at < len(block):
            if self._quick is not None:
                rows = self.columns.rows
                at = self._quick.fill(block, at)
                self._line += self.columns.rows - rows
            if self.columns.rows == self.columns.most:
                yield self.columns.take()
            elif at < len(block):
                at = self._next_line(block, at)

    def _begin(self, block: bytes) -> int:
        """Where the first row begins."""
        if not self._form.has_header:
            return len(MARK) if block.startswith(MARK) else 0
        self._line = 1
        return block.find(b"\n") + 1 or len(block)

    def _next_line(self, block: bytes, at: int) -> int:
        """Decode one line; where the next begins."""
        self._line += 1
        end = block.find(b"\n", at)
        line = block[at:] if end < 0 else block[at:end].removesuffix(b"\r")
        try:
            if not line:
                self._tally.skip("blank", 1)
            elif end < 0 and not is_whole(self._form, line):
                raise unfinished()
            else:
                self.columns.add(self._decoder.decode(line))
        except LeftOut as error:
            self._tally.skip(error.reason, 1)
        except DataError as error:
            self._tally.refuse(self._line, error)
        return end + 1 or len(block)
