"""What can go wrong in the buffer, named by whose turn it is to act.

StoreError
+-- SealError      the key: missing, unreadable, or not the one this database was made with
+-- InUseError     another process has the buffer open
+-- NotNowError    something passing, such as a lock or a full disk: try again
+-- SchemaError    the database was written by a newer version, or by another program
+-- MediumError    the disk: acknowledge nothing more and end the process without touching the file
"""


class StoreError(Exception):
    """Base of the buffer's errors."""


class SealError(StoreError):
    """The operator must provide the right key."""


class InUseError(StoreError):
    """Use the running daemon's control socket instead."""


class NotNowError(StoreError):
    """Try again."""


class SchemaError(StoreError):
    """Install the version that wrote this database, or a newer one; or it is no buffer at all."""


class MediumError(StoreError):
    """After this nothing SQLite says about this file can be believed until its cached pages are dropped."""
