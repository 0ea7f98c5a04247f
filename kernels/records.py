"""Find where the records of delimited text begin, where a newline inside quotes ends none."""

from __future__ import annotations

from typing import Any

from kernelmill.kernels._jit import i64, i64_out, kernel, u8_in

_FIELD_START, _IN_FIELD, _IN_QUOTES, _QUOTE_IN_QUOTES, _IN_COMMENT = 0, 1, 2, 3, 4


@kernel(i64(u8_in, i64, i64, i64, i64, u8_in, i64_out, i64_out))
def find_records(
    data: Any, start: int, stop: int, separator: int, quote: int, comment: Any, start_of_record: Any, found: Any
) -> int:
    r"""Find the records of [start, stop), which begins at a record; return the number of those that end in it.

    A record ends at \n, \r\n or \r outside quotes. A quote opens where a field begins and nowhere else, as pyarrow's
    parser has it; two in a row inside quotes are one of the value. quote: its byte, -1 if there is none. A record that
    begins with `comment` (u8[k], none if it is empty) has no quotes.
    Shapes: data u8[n], n >= stop; start_of_record i64[m], m as many as there may be, or 0 if nobody asks for them;
    found i64[3]: where the first record begins that does not end here (`stop` if none), how many \n inside quotes were
    passed, and whether quotes are open at `stop`. Units: bytes. Errors: none.
    """
    records_max = start_of_record.size
    count, record, newlines, state = 0, start, 0, _FIELD_START
    for at in range(start, stop):
        byte = data[at]
        if at == record and comment.size and at + comment.size <= stop:
            state = _IN_COMMENT
            for place in range(comment.size):
                if data[at + place] != comment[place]:
                    state = _FIELD_START
                    break
        if state == _IN_QUOTES:
            if byte == quote:
                state = _QUOTE_IN_QUOTES
            elif byte == 10:
                newlines += 1
        elif state == _QUOTE_IN_QUOTES and byte == quote:
            state = _IN_QUOTES
        elif byte == 10 or (byte == 13 and (at + 1 >= stop or data[at + 1] != 10)):
            if records_max:
                start_of_record[count] = record
            count += 1
            record = at + 1
            state = _FIELD_START
        elif state == _IN_COMMENT:
            continue
        elif byte == separator:
            state = _FIELD_START
        elif byte == quote and state == _FIELD_START:
            state = _IN_QUOTES
        else:
            state = _IN_FIELD
    found[0], found[1], found[2] = record, newlines, 1 if state == _IN_QUOTES else 0
    return count
