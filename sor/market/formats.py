"""The formats of market data, each known by how its file begins; a new one is a file of its own and a line here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from sor.errors import DataError, InputError
from sor.market import plain, taq
from sor.market.columns import Batch, Columns
from sor.market.databento_csv import CsvDecoder, QuickCsv
from sor.market.databento_json import JsonDecoder
from sor.market.dbn import MAGIC as DBN
from sor.market.dbn import batches as dbn_batches
from sor.market.dbn import messages as dbn_messages
from sor.market.instruments import SHARES, InLots, Instruments
from sor.market.packed import Unpacked, packing_of
from sor.market.parquet import BEGINS, read_parquet
from sor.market.parquet import messages as parquet_messages
from sor.market.update import Decoder, Tally
from sor.market.venues import VenueDirectory

FIRST_BYTES = 4  # which tell a format without lines
MARK = b"\xef\xbb\xbf"  # byte-order mark of UTF-8
LEARNED = 1000  # rows that tell what holds for a file, such as the unit of its prices


class Quick(Protocol):
    """Reads rows that are written as they usually are."""

    def fill(self, block: bytes, at: int) -> int:
        """Add the rows of whole lines from ``at`` on to the columns, as many as there is room for; where it stopped."""


class NewDecoder(Protocol):
    """Makes the decoder of a file, see `Format`."""

    def __call__(
        self,
        first: bytes,
        depth: int,
        directory: VenueDirectory | None,
        *,
        events: bool,
        receipts: bool,
        instruments: Instruments,
    ) -> Decoder: ...


@dataclass(frozen=True)
class Format:
    """A way that market data is written.

    Attributes
    ----------
    name : str
    begins : callable
        Whether a file is of it, by its first line without a byte-order mark; of a file without lines, its first bytes.
    decoder : callable, optional
        Of a format with a row a line: the `Decoder`, from the first line, the depth, for formats that name venues the
        directory that knows them (by default the built-in one), whether what has happened is wanted, and the time
        of receipt and every flag, as a `Batch` holds them, and the instruments.
    has_header : bool
        The first line is no row.
    quick : callable, optional
        Reads many rows at once where they are written as usual; the decoder then decodes the others only.
    batches : callable, optional
        Of a format without lines: the file's rows as columns, in its order, with as many levels as asked for, from
        the file, the depth, the tally, the instruments and the directory. It numbers symbols as it likes; they may
        become more from batch to batch.
    decimals : bool
        Sizes may be decimals of an instrument's unit, so that its decoder and its batches give lots; where they are
        whole shares or coins, who calls them turns these into lots.
    messages : callable, optional
        Of a format without lines: the rows as JSON that `JsonDecoder` takes or refuses, each with its number from 1
        on, from the file, the instruments and the directory.
    """

    name: str
    begins: Callable[[bytes], bool]
    decoder: NewDecoder | None = None
    has_header: bool = True
    quick: Callable[[Any, Columns], Quick] | None = None
    batches: Callable[..., Iterator[Batch]] | None = None
    messages: Callable[..., Iterator[list[tuple[int, bytes]]]] | None = None
    decimals: bool = False

    def decoder_of(
        self,
        first: bytes,
        depth: int,
        directory: VenueDirectory | None = None,
        *,
        events: bool = False,
        receipts: bool = False,
        instruments: Instruments = SHARES,
    ) -> Decoder:
        """A decoder for a file that begins with this line; sizes are in lots where there are instruments."""
        if self.decoder is None:
            raise InputError(f"{self.name} has no lines: sor.read_feed reads it")
        found = self.decoder(first, depth, directory, events=events, receipts=receipts, instruments=instruments)
        return InLots(found, instruments) if instruments and not self.decimals else found


def _json(first: bytes, depth: int, directory: VenueDirectory | None, **wanted: Any) -> Decoder:
    return JsonDecoder(depth, **wanted)


def _csv(
    first: bytes, depth: int, directory: VenueDirectory | None, *, events: bool, receipts: bool, **_: Any
) -> Decoder:
    return CsvDecoder(first, depth, events=events, receipts=receipts)


def _taq(first: bytes, depth: int, directory: VenueDirectory | None, *, events: bool, **_: Any) -> Decoder:
    return taq.decoder(first, directory or VenueDirectory.load(), events=events)


def _plain(
    first: bytes, depth: int, directory: VenueDirectory | None, *, events: bool, instruments: Instruments, **_: Any
) -> Decoder:
    return plain.decoder(first, directory or VenueDirectory.load(), depth, events=events, instruments=instruments)


def _dbn_batches(file: Unpacked, depth: int, tally: Tally, *_: Any) -> Iterator[Batch]:
    return dbn_batches(file, depth, tally)


def _dbn_messages(file: Unpacked, *_: Any) -> Iterator[list[tuple[int, bytes]]]:
    return dbn_messages(file)


FORMATS = (  # the first that fits
    Format("Databento DBN", lambda first: first.startswith(DBN), None, False, None, _dbn_batches, _dbn_messages),
    Format("Databento JSON", lambda first: first.lstrip().startswith(b"{"), _json, has_header=False, decimals=True),
    Format(
        "Parquet",
        lambda first: first.startswith(BEGINS),
        has_header=False,
        batches=read_parquet,
        messages=parquet_messages,
        decimals=True,
    ),
    Format("TAQ of WRDS as CSV", taq.is_taq, _taq),
    Format("plain CSV", plain.is_plain, _plain, decimals=True),
    Format("Databento CSV", lambda first: True, _csv, quick=QuickCsv),  # and says what is missing where it is none
)

OTHERS = (  # what a file of another kind begins with
    ((b"\xff\xfe", b"\xfe\xff"), "UTF-16 text: iconv -f UTF-16 -t UTF-8 makes it readable"),
    ((b"[",), "a JSON array: one object a line is needed, which jq -c '.[]' writes"),
    ((b"PK\x03\x04",), "a zip archive (or a spreadsheet): unpack it, or pack it with gzip"),
    ((b"\x1f\x9d", b"\x1f\xa0"), "a .Z archive of compress: unpack it, or pack it with gzip"),
    ((b"7z\xbc\xaf\x27\x1c",), "a 7z archive: unpack it, or pack it with gzip"),
    ((b"Rar!",), "a rar archive: unpack it, or pack it with gzip"),
    ((b"\x04\x22\x4d\x18",), "an lz4 archive: unpack it, or pack it with gzip"),
    ((b"\xff\x06\x00\x00sNaPpY",), "a snappy archive: unpack it, or pack it with gzip"),
    ((b"\x5d\x00\x00",), "a .lzma archive: unpack it, or pack it with xz"),
    ((b"ARROW1", b"FEA1"), "an Arrow file: write it as CSV"),
    ((b"\x89HDF",), "an HDF5 file: write it as CSV"),
)


def format_of(first: bytes, path: str) -> Format:
    """The format of a file that begins with this line.

    Raises
    ------
    InputError
        It is of none.
    """
    line = first.removeprefix(MARK)
    if not line.strip():
        raise InputError(f"{path} is empty or starts with a blank line: it must be Databento MBP-1 or MBP-10")
    found = without_lines(first) or next(one for one in FORMATS if one.messages is None and one.begins(line))
    if found is not FORMATS[-1]:
        if line.strip() == b"{":
            raise InputError(f"{path} is JSON over several lines: one object a line is needed, as jq -c writes it")
        return found
    if packing_of(line) is not None:
        raise InputError(f"{path} is packed twice: unpack it once")
    if line[257:262] == b"ustar":
        raise InputError(f"{path} is a tar archive: unpack it")
    for starts, what in OTHERS:
        if line.startswith(starts):
            raise InputError(f"{path} is {what}")
    if b"\0" in line[:2] and line[:2] != b"\0\0":
        raise InputError(f"{path} is UTF-16 text without a byte-order mark, or no text")
    return found


def without_lines(first: bytes) -> Format | None:
    """The format without lines that a file is of which begins with these bytes, `FIRST_BYTES` or more."""
    return next((one for one in FORMATS if one.messages is not None and one.begins(first)), None)


def is_whole(form: Format, line: bytes) -> bool:
    """Whether a line without an end has all its parts: a cut object is no JSON, a cut row may well be a row."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return not form.has_header and isinstance(msgspec.json.decode(line), dict)
    return False


def first_rows_refused(path: str, form: Format, error: DataError, unfinished: bool) -> InputError:
    """What to say of a file whose header, or first rows, its format refuses."""
    if not form.has_header:
        return InputError(f"{path}: {error}")
    end = " (the line has no end: is the file still being written?)" if unfinished else ""
    return InputError(f"{path}, line 1: {error}{end}")
