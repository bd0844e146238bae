"""Keys, what changed of them, and messages to devices. All keys are the canonical JSON that was uploaded."""

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class DeviceKeys(Table):
    """The identity keys of a device of ours."""

    __tablename__ = "device_keys"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    device_id: Mapped[str] = mapped_column(Key, primary_key=True)
    keys: Mapped[str]


class OneTimeKey(Table):
    """A key that nobody has claimed yet; those of the lowest ``upload_order`` are given out first."""

    __tablename__ = "one_time_keys"
    __table_args__ = (
        UniqueConstraint("user_id", "device_id", "algorithm", "key_id", name="one_time_key_ids"),
        Index("one_time_keys_in_order", "user_id", "device_id", "algorithm", "upload_order"),
    )

    upload_order: Mapped[int] = mapped_column(primary_key=True, autoincrement=True, init=False)
    user_id: Mapped[str] = mapped_column(Key)
    device_id: Mapped[str] = mapped_column(Key)
    algorithm: Mapped[str] = mapped_column(Key)
    key_id: Mapped[str] = mapped_column(Key)
    key: Mapped[str]


class FallbackKey(Table):
    """What is given out while there is no one-time key."""

    __tablename__ = "fallback_keys"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    device_id: Mapped[str] = mapped_column(Key, primary_key=True)
    algorithm: Mapped[str] = mapped_column(Key, primary_key=True)
    key_id: Mapped[str]
    key: Mapped[str]
    used: Mapped[bool]
    """It has been given out since it was uploaded."""


class CrossSigningKey(Table):
    """A user's ``master``, ``self_signing`` or ``user_signing`` key; of users elsewhere as far as we are told."""

    __tablename__ = "cross_signing_keys"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    usage: Mapped[str] = mapped_column(Key, primary_key=True)
    public_key: Mapped[str]
    """Unpadded base64: the key's ID without its algorithm."""
    keys: Mapped[str]


class KeySignature(Table):
    """That a user of ours signed a key after it was uploaded."""

    __tablename__ = "key_signatures"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    key_id: Mapped[str] = mapped_column(Key, primary_key=True)
    """What is signed: a device ID, or the public key of a cross-signing key."""
    signer: Mapped[str] = mapped_column(Key, primary_key=True)
    signing_key_id: Mapped[str] = mapped_column(Key, primary_key=True)
    """Such as ``ed25519:…``."""
    signature: Mapped[str]


class DeviceListChange(Table):
    """When the keys of ``user_id``, or what is seen of them, changed last."""

    __tablename__ = "device_list_changes"
    __table_args__ = (Index("device_list_changes_by_position", "position"),)

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    seen_by: Mapped[str] = mapped_column(Key, primary_key=True)
    """The only user who sees the change; empty: everybody who shares a room."""
    position: Mapped[int]
    stream_id: Mapped[int | None] = mapped_column(default=None)
    """Of a user of ours: that of the last ``m.device_list_update``, to which the next one refers."""


class RemoteDeviceList(Table):
    """A user elsewhere whose devices we keep, as long as we share a room."""

    __tablename__ = "remote_device_lists"
    __table_args__ = (Index("stale_device_lists", "is_current", "due_ts"),)

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    stream_id: Mapped[int | None]
    is_current: Mapped[bool]
    """False once an update was missed: all has to be fetched again."""
    due_ts: Mapped[int]
    """When to try to fetch it, if it is not current."""
    attempts: Mapped[int]
    position: Mapped[int] = mapped_column(default=0)
    """Of the stream, when it was fetched: it is good only if a room has been shared ever since."""


class RemoteDevice(Table):
    """A device in a list that we keep."""

    __tablename__ = "remote_devices"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    device_id: Mapped[str] = mapped_column(Key, primary_key=True)
    display_name: Mapped[str | None]
    keys: Mapped[str | None]


class FollowedPosition(Table):
    """Up to which position of the stream the membership events have been followed."""

    __tablename__ = "followed_position"

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int]


class ToDeviceMessage(Table):
    """What waits for a device of ours. ``content`` is JSON."""

    __tablename__ = "to_device_messages"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    device_id: Mapped[str] = mapped_column(Key, primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sender: Mapped[str]
    type: Mapped[str]
    content: Mapped[str]


class ToDeviceTransaction(Table):
    """That the messages of this request have been sent."""

    __tablename__ = "to_device_transactions"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    device_id: Mapped[str] = mapped_column(Key, primary_key=True)
    type: Mapped[str] = mapped_column(Key, primary_key=True)
    txn_id: Mapped[str] = mapped_column(Key, primary_key=True)
    sent_ts: Mapped[int] = mapped_column(index=True)


class ReceivedToDevice(Table):
    """That another server's ``m.direct_to_device`` has been delivered."""

    __tablename__ = "received_to_device"

    origin: Mapped[str] = mapped_column(Key, primary_key=True)
    message_id: Mapped[str] = mapped_column(Key, primary_key=True)
    received_ts: Mapped[int] = mapped_column(index=True)


class KeyBackup(Table):
    """A version of a user's backup of room keys. Deleted versions stay known, without their keys."""

    __tablename__ = "key_backups"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    algorithm: Mapped[str]
    auth_data: Mapped[str]
    etag: Mapped[int]
    """Counts the changes of its keys."""
    count: Mapped[int]
    deleted: Mapped[bool]


class BackedUpKey(Table):
    """``session_data`` is JSON."""

    __tablename__ = "backed_up_keys"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    room_id: Mapped[str] = mapped_column(Key, primary_key=True)
    session_id: Mapped[str] = mapped_column(Key, primary_key=True)
    first_message_index: Mapped[int]
    forwarded_count: Mapped[int]
    is_verified: Mapped[bool]
    session_data: Mapped[str]
