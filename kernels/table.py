"""KeyTable: the arrays of a key table, their growth, and reading the groups back. Numpy only; the loops are kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernelmill.kernels import counting, keytable, staged, tablerows
from kernelmill.kernels.arrays import cleared, side_by_side, uncleared, zeroed
from kernelmill.kernels.keytable import ARENA_FULL, ARENA_USED, FLUSH, LONGEST_PROBE, REASON, ROWS_FULL, ROWS_SEEN, USED

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Groups = NDArray[np.int32]
Order = NDArray[np.uint32]
Strings = tuple[Bytes, NDArray[np.int32], Bytes, int]
"""Bytes, offsets, one validity byte each, and the number of nulls."""

NO_MASK: Bytes = np.empty(0, np.uint8)
"""Stands for "every value is valid" wherever a kernel takes a validity of one byte a row."""

_SEEDS = [np.uint64(0x2545F4914F6CDD1D * k & 0xFFFFFFFFFFFFFFFF) for k in range(1, 17)]
_FIRST_SLOTS = 1 << 14
_SLOTS_CAREFUL = 1 << 20  # from here slots grow x2 instead of x4: 4 MiB and more would lie idle
_DIRECT_MAX = 1 << 20
_UNBOUNDED = 1 << 62
_ARENA_SPARE = 1 << 20  # one chunk more than the flush size; only a giant key makes the arena grow
_NO_DIRECT: Groups = np.empty(0, np.int32)


class KeyTable:
    """Numbers distinct keys in first-seen order. Made once a thread and used again: `reset` before each task.

    Records and arena are allocated for all that may come, but pages are touched only as they are used.
    """

    def __init__(self) -> None:
        self._groups_max = self._key_bytes_max = 0
        self.slots: Order = zeroed(_FIRST_SLOTS, np.uint32)
        self.rows: Words = _records(0)
        self.arena: Bytes = np.empty(0, np.uint8)
        self.state: NDArray[np.int64] = np.zeros(keytable.STATE_SIZE, np.int64)
        self._seed = 0
        self._keys: Words = _records(keytable.CHUNK_ROWS + keytable.SLOT_AHEAD).reshape(-1)
        self._scratch: Groups = np.empty(keytable.SCRATCH_SIZE, np.int32)
        self._direct, self._direct_base = _NO_DIRECT, np.uint64(0)
        self._rooms: dict[str, NDArray[Any]] = {}

    def __len__(self) -> int:
        return int(self.state[USED])

    @property
    def rows_seen(self) -> int:
        """Tokens counted since the table was cleared."""
        return int(self.state[ROWS_SEEN])

    @property
    def seed(self) -> np.uint64:
        """What the table hash of its keys is seeded with now."""
        return _SEEDS[self._seed]

    @property
    def nbytes(self) -> int:
        """Bytes held, untouched capacity not counted."""
        return int(self.slots.nbytes + 32 * len(self) + min(self.arena.nbytes, int(self.state[ARENA_USED]) + (1 << 20)))

    def reset(self, *, groups_max: int, key_bytes_max: int) -> None:
        """Forget all keys; from now on it wants a flush at `groups_max` groups or at `key_bytes_max` of long keys."""
        self._groups_max, self._key_bytes_max = groups_max, key_bytes_max
        self._reserve(groups_max, key_bytes_max)
        self.clear()

    def reset_unbounded(self, *, groups: int, key_bytes: int) -> None:
        """Forget all keys; from now on it never wants a flush. There is room for that many groups before it grows."""
        self._groups_max = self._key_bytes_max = _UNBOUNDED
        self._reserve(groups, key_bytes)
        self.clear()

    def _reserve(self, groups: int, key_bytes: int) -> None:
        if len(self.rows) < groups + counting.CHUNK_TOKENS:
            self.rows = _records(groups + counting.CHUNK_TOKENS)
        if self.arena.size < key_bytes + _ARENA_SPARE:
            self.arena = np.empty(key_bytes + _ARENA_SPARE, np.uint8)

    def clear(self) -> None:
        """Forget all keys, keep the memory."""
        self.slots[:] = 0
        self.state[:] = 0
        self._direct = _NO_DIRECT

    # Adding keys -----------------------------------------------------------------------------------------------------

    def group_words(self, values: Words, validity: Bytes, first: int, groups: Groups) -> int:
        """Number fixed-width keys from row `first` on; returns the first row not done: below the end, flush."""
        self._aim_direct(values)
        return self._run(
            keytable.group_words, (values, validity), first, values.size,
            (self._direct, self._direct_base, self._keys, self._scratch), groups,
        )  # fmt: skip

    def group_strings(
        self, data: Bytes, offsets: NDArray[np.int32], validity: Bytes, first: int, groups: Groups
    ) -> int:
        """Number strings data[offsets[r]:offsets[r + 1]] from row `first` on, as `group_words` does."""
        columns = (data, offsets, validity)
        return self._run(keytable.group_strings, columns, first, offsets.size - 1, (self._keys, self._scratch), groups)

    def group_staged(
        self, base: Bytes, addresses: NDArray[np.int64], sizes: NDArray[np.int64], first: int, groups: Groups
    ) -> int:
        """Number texts that a compiled function staged (see `kernels/staged`) from row `first` on."""
        columns = (base, base.ctypes.data, addresses, sizes)
        return self._run(staged.group_staged, columns, first, sizes.size, (self._keys,), groups)

    def count_staged(self, base: Bytes, addresses: NDArray[np.int64], sizes: NDArray[np.int64], first: int) -> int:
        """Add one to the counts of staged texts from row `first` on; returns as `group_staged`."""
        columns = (base, base.ctypes.data, addresses, sizes)
        return self._run(staged.count_staged, columns, first, sizes.size, (self._keys,), _NO_DIRECT)

    def counting_call(
        self, base: Bytes, addresses: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> tuple[int, Words] | None:
        """`count_staged` from row 0 on, for a driver to call: its address and frame, see `staged.LAST_ARGUMENT`.

        Good until the table grows or one of these arrays goes. None where kernels have no addresses.
        """
        columns = (base, base.ctypes.data, addresses, sizes)
        return self._prepared(staged.count_staged, columns, self._groups_max, _NO_DIRECT)

    def numbering_call(
        self, base: Bytes, addresses: NDArray[np.int64], sizes: NDArray[np.int64], groups: Groups, groups_max: int
    ) -> tuple[int, Words] | None:
        """`group_staged`, as `counting_call`; it stops at `groups_max` groups and a chunk, be they a flush or not."""
        columns = (base, base.ctypes.data, addresses, sizes)
        return self._prepared(staged.group_staged, columns, min(groups_max, self._groups_max), groups)

    def _prepared(
        self, kernel: Any, columns: tuple[Any, ...], groups_max: int, groups: Groups
    ) -> tuple[int, Words] | None:
        made = kernel.prepared(
            *columns, 0, 0, _SEEDS[self._seed], self._keys, groups_max, self._key_bytes_max,
            self.slots, self.rows, self.arena, self.state, groups,
        )  # fmt: skip
        return None if made is None else (made[0], np.frombuffer(made[1], np.uint64).copy())

    def group_codes(
        self, codes: NDArray[np.int32], validity: Bytes, dictionary: tuple[Bytes, NDArray[np.int32], Bytes],
        direct: Groups, first: int, groups: Groups,
    ) -> int:  # fmt: skip
        """Number dictionary codes; `direct` holds the groups of the codes seen since the table was cleared, else -1."""
        return self._run(
            keytable.group_codes,
            (codes, validity),
            first,
            codes.size,
            (*dictionary, direct, self._keys, self._scratch),
            groups,
        )

    def count_tokens(
        self, data: Bytes, at: int, stop: int, mode: int, separators: Bytes, scratch: tuple[Groups, Groups, Words]
    ) -> int:
        """Count the tokens of data[at:stop); returns where it stopped: before `stop`, flush."""
        while True:
            at = counting.count_tokens(
                data, at, stop, mode, separators, _SEEDS[self._seed], *scratch,
                self._groups_max, self._key_bytes_max, self.slots, self.rows, self.arena, self.state,
            )  # fmt: skip
            if not self._make_room(stop - at):
                return at

    def _run(
        self, kernel: Any, columns: tuple[Any, ...], first: int, last: int, extra: tuple[Any, ...], groups: Groups
    ) -> int:
        while True:
            first = kernel(
                *columns, first, last, _SEEDS[self._seed], *extra,
                self._groups_max, self._key_bytes_max, self.slots, self.rows, self.arena, self.state, groups,
            )  # fmt: skip
            if not self._make_room(columns[0].size):
                return first

    def _make_room(self, incoming_bytes: int) -> bool:
        """Grow what the kernel found full; False if it is done or wants a flush, which is the caller's."""
        reason = self.state[REASON]
        if reason in (keytable.DONE, FLUSH):
            return False
        if reason == ARENA_FULL:
            needed = int(self.state[ARENA_USED]) + min(incoming_bytes, max(self.arena.size, 1 << 20)) + 64
            grown = np.empty(max(2 * self.arena.size, needed), np.uint8)
            grown[: self.state[ARENA_USED]] = self.arena[: self.state[ARENA_USED]]
            self.arena = grown
            return True
        if reason == ROWS_FULL:
            rows = _records(2 * len(self.rows))
            rows[: len(self)] = self.rows[: len(self)]
            self.rows = rows
            return True
        reseed = bool(self.state[LONGEST_PROBE] > keytable.PROBE_LENGTH_MAX)
        if reseed:
            self._seed = (self._seed + 1) % len(_SEEDS)
        size = self.slots.size
        if not reseed:  # colliding keys would make any number of slots grow: a new seed is their only cure
            size *= 4 if size < _SLOTS_CAREFUL else 2
        self.slots = cleared(size, np.uint32)
        longest = keytable.fill_slots(self.rows, len(self), self.arena, self.slots, reseed, _SEEDS[self._seed])
        self.state[LONGEST_PROBE] = 0 if reseed else longest
        return True

    def _aim_direct(self, values: Words) -> None:
        """Lay the direct cache over the first batch's values if they span little; it only saves time."""
        if self._direct.size or not values.size or len(self):
            return
        signed = values.view(np.int64)
        low, high = int(signed.min()), int(signed.max())
        if high - low < _DIRECT_MAX:
            self._direct_base = np.uint64(low & 0xFFFFFFFFFFFFFFFF)
            self._direct = np.full(2 * (high - low + 1), -1, np.int32)

    def cut(self, first: int, groups_max: int, key_bytes_max: int) -> int:
        """The end of a run of groups from `first`: at most `groups_max`, keys of `key_bytes_max`, but one at least."""
        last = min(first + groups_max, len(self))
        if int(self.state[ARENA_USED]) + 16 * (last - first) <= key_bytes_max:
            return last
        lengths = self.rows[first:last, 3] & np.uint64(0xFFFFFFFF)
        lengths[lengths == np.uint64(0x80000000)] = 0
        fitting = int(np.searchsorted(np.cumsum(lengths), np.uint64(key_bytes_max), side="right"))
        return first + max(1, fitting)

    # Reading groups --------------------------------------------------------------------------------------------------

    def words(self, first: int, last: int) -> tuple[Words, Bytes, int]:
        """Fixed-width keys of groups [first, last), one validity byte each, and the number of nulls."""
        values, validity = np.empty(last - first, np.uint64), np.empty(last - first, np.uint8)
        nulls = tablerows.read_words(self.rows, first, last, values, validity)
        return values, validity, nulls

    def strings(self, first: int, last: int) -> Strings:
        """Strings of groups [first, last): data (16 slack bytes at the end), offsets, validity bytes, nulls."""
        offsets, validity = np.empty(last - first + 1, np.int32), np.empty(last - first, np.uint8)
        nulls = tablerows.read_offsets(self.rows, first, last, offsets, validity)
        data = np.empty(int(offsets[-1]) + tablerows.KEY_SLACK_BYTES, np.uint8)
        tablerows.read_strings(self.rows, self.arena, first, last, offsets, data)
        return data, offsets, validity, nulls

    def counts(self, first: int, last: int) -> NDArray[np.uint32]:
        """The counts that `count_tokens` and `count_staged` left for groups [first, last)."""
        counts = np.empty(last - first, np.uint32)
        tablerows.read_counts(self.rows, first, counts)
        return counts

    def room(self, name: str, count: int, dtype: type[np.generic]) -> NDArray[Any]:
        """`count` items of any content, in memory that is used again: valid until the same room is asked for."""
        held = self._rooms.get(name)
        if held is None or held.size < count:
            held = self._rooms[name] = uncleared(count, dtype)
        return held[:count]

    def partitions_of_strings(self, first: int, last: int, partitions: int) -> tuple[Order, NDArray[np.int64], int]:
        """The partition of each string of groups [first, last), the groups of each partition, the strings' bytes.

        The first is in the room "parts".
        """
        parts, groups_of_part = self.room("parts", last - first, np.uint32), np.empty(partitions, np.int64)
        key_bytes = tablerows.partition_groups(self.rows, self.arena, first, partitions, parts, groups_of_part)
        return parts, groups_of_part, key_bytes

    def placed_strings(
        self, first: int, order: Order, key_bytes: int, counted: type[np.uint32 | np.int64] | None = None
    ) -> tuple[Strings, NDArray[Any]]:
        """As `strings`, and as `counts`, for the groups first + order, whose strings have `key_bytes`.

        No copy in first-seen order is made on the way. Counts of type `counted` lie beside the strings and stay as long
        as these; where that is not said they are in the room of that name, as validity is.
        """
        columns = [(key_bytes + tablerows.KEY_SLACK_BYTES, np.uint8), (order.size + 1, np.int32)]
        data, offsets, *beside = side_by_side(*columns, *([] if counted is None else [(order.size, counted)]))
        counts = beside[0] if beside else self.room("counts", order.size, np.uint32)
        validity, halves = self.room("validity", order.size, np.uint8), counts.view(np.uint32)
        nulls = tablerows.place_groups(self.rows, self.arena, first, order, offsets, validity, data, halves)
        return (data, offsets, validity, nulls), counts


def _records(count: int) -> Words:
    """Room for `count` records, each in one cache line of 64 bytes: from numpy alone every other one lies in two."""
    return uncleared(4 * count, np.uint64).reshape(count, 4)


def counting_scratch() -> tuple[Groups, Groups, Words]:
    """Working arrays for `KeyTable.count_tokens`, one set a thread."""
    tokens = counting.CHUNK_TOKENS
    keys = _records(tokens + keytable.SLOT_AHEAD).reshape(-1)
    return np.empty(tokens, np.int32), np.empty(tokens, np.int32), keys
