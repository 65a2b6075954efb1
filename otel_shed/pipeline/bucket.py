"""Buckets of randomness, so that room can be made by whole ones: the lowest goes first.

Pure functions. The rule: a bucket is a range of randomness, and its upper edge is a threshold.
"""

from __future__ import annotations

from otel_shed.control.threshold import NEVER, RANDOMNESS_BITS

# Each time that half of what is left has gone, eight buckets have: one is an eighth to a sixteenth of what is left.
_PER_HALVING = 8


def bucket_of(randomness: int) -> int:
    """The number of its bucket, from 0; the higher the later it goes."""
    beyond = NEVER - 1 - (randomness & NEVER - 1)
    bits = beyond.bit_length()
    if not bits:
        return RANDOMNESS_BITS * _PER_HALVING
    return (RANDOMNESS_BITS - bits) * _PER_HALVING + 2 * _PER_HALVING - 1 - beyond * _PER_HALVING // (1 << bits - 1)


def edge_of(bucket: int) -> int:
    """The threshold that the higher buckets reach, and this one does not."""
    halvings, place = divmod(bucket, _PER_HALVING)
    if halvings >= RANDOMNESS_BITS:
        return NEVER - 1
    least_beyond = -((place + 1 - 2 * _PER_HALVING) * (1 << RANDOMNESS_BITS - 1 - halvings) // _PER_HALVING)
    return NEVER - least_beyond
