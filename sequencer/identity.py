"""Who a replica is: the identity file of its folder."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import xxhash

from corfu import schema
from corfu.errors import CorfuError, CorruptionError, WireError
from corfu.ports import Disk
from corfu.types import ClusterId, Incarnation, ReplicaId

IDENTITY_NAME = "identity"
FORMAT_VERSION = 1

_MAGIC = b"CORFUSEQ"
_HEADER = struct.Struct("<8sHQ")


class ExpelledError(CorfuError):
    """Another replica has taken this one's place in the group: its folder is of no use any more."""

    def __init__(self) -> None:
        super().__init__("this replica is no member of its cluster any more: it was replaced")


@dataclass(frozen=True, slots=True)
class ReplicaIdentity:
    """Whose folder it is; written once, by `format`, and never changed."""

    cluster: ClusterId
    replica: ReplicaId
    incarnation: Incarnation


def encode_identity(identity: ReplicaIdentity) -> bytes:
    """Return the identity file."""
    body = schema.pack(identity)
    return _HEADER.pack(_MAGIC, FORMAT_VERSION, xxhash.xxh3_64_intdigest(body)) + body


def read_identity(disk: Disk) -> ReplicaIdentity:
    """Return whose folder it is.

    Raises:
        CorruptionError: No replica was formatted here, or the file is damaged or too new.
    """
    if IDENTITY_NAME not in disk.names():
        # Never made anew: a replica that forgot its votes would make two majorities possible.
        raise CorruptionError(IDENTITY_NAME, "no sequencer replica was formatted in this folder")
    data = disk.read(IDENTITY_NAME, 0, disk.size(IDENTITY_NAME))
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise CorruptionError(IDENTITY_NAME, "byte 0 on: not the identity of a sequencer replica")
    _, version, digest = _HEADER.unpack_from(data)
    if version != FORMAT_VERSION:
        raise CorruptionError(
            IDENTITY_NAME, f"format version {version}; this program knows {FORMAT_VERSION}"
        )
    body = data[_HEADER.size :]
    if digest != xxhash.xxh3_64_intdigest(body):
        raise CorruptionError(
            IDENTITY_NAME, f"damaged: bytes {_HEADER.size} to {len(data)} fail their digest"
        )
    try:
        return schema.unpack(ReplicaIdentity, body)
    except WireError as error:
        raise CorruptionError(IDENTITY_NAME, str(error)) from error
