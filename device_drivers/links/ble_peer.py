"""What an adapter remembers of one patch between connections, and what it says of it. Plain bookkeeping."""

import time
from dataclasses import replace
from datetime import datetime

from bleak.backends.device import BLEDevice

from device_drivers.advertising import NOTHING, Advertised
from device_drivers.links.ble_base import BlePatch, PatchState
from device_drivers.links.ble_connection import Connection
from device_drivers.links.ble_pairing import Bonding
from device_drivers.links.ble_policy import FRESH_SECONDS, Candidate, backoff

# A patch that is heard, is bonded, and does not connect so often in a row, for so long, has lost its half of the bond.
_SUSPICIOUS, _SUSPICIOUS_SECONDS = 3, 60.0
# Failures that are so far apart are none in a row: it was away meanwhile.
_ROW_SECONDS = 900.0
# A passkey leaks one bit with each wrong attempt.
_BOND_TRIES = 3
_PAIR_AGAIN = "pair it again: patch-gateway pair, with its label or --passkey"
_LONG, _SELDOM = 3_600.0, 300.0
# Whether there is a bond costs one question to BlueZ, not a connect.
_ASK_BLUEZ = 30.0
# After an end the patch needs a moment, and BlueZ two seconds, before the link is gone on both sides.
_PAUSE = 2.0
_AWAY = 30.0
_NO_ADAPTER, _UNHEARD = "waiting for the adapter", "not heard since the adapter came back"


class Peer:
    """One patch at one adapter; `state` is what `status` shows."""

    def __init__(self, patch: BlePatch, state: PatchState) -> None:
        self.patch, self.state = patch, state
        state.window = patch.window
        self.device: BLEDevice | None = None
        self.connection: Connection | None = None
        self.lost_bond = False
        self._heard_at: float | None = None
        self._data_at: float | None = None
        self._fails_since = 0.0
        self._tried_at: float | None = None
        self._not_before = 0.0
        self._bond_tries = 0
        self._said = NOTHING
        self._known_sequence: int | None = None

    @property
    def trusts_bond(self) -> bool:
        """Was the bond made with the passkey? BlueZ itself does not tell it from one that anybody could have made."""
        return self.patch.bonded or not self.patch.authenticated

    def candidate(self, now: float) -> Candidate:
        """For the policy."""
        said = self._said.sequence
        return Candidate(
            self.patch.device_id,
            connected=self.connection is not None,
            heard_at=self._heard_at if self.device else None,
            data_at=self._data_at,
            tried_at=self._tried_at,
            not_before=self._not_before,
            urgent=self._said.urgent and (self._data_at is None or now - self._data_at > _AWAY),
            news=said is not None and said != self._known_sequence,
            wants_pairing=self.patch.passkey is not None
            and self.state.bonded is False
            and self._bond_tries < _BOND_TRIES,
        )

    def renew(self, patch: BlePatch) -> None:
        """The registry changed: another pairing window starts afresh, another address is another radio."""
        if patch.address != self.patch.address:
            self.forget_device()
            if self.connection:
                self.connection.lost("its address was corrected")
        if patch.window is not None and patch.window != self.patch.window:
            self._bond_tries, self._not_before, self.state.pair_again = 0, 0.0, False
        self.patch, self.state.window = patch, patch.window

    def say(self, reason: str, now: datetime) -> None:
        if self.state.reason != reason:
            self.state.reason, self.state.since = reason, now

    def wait(self, seconds: float) -> None:
        """Not to be tried before."""
        self._not_before = time.monotonic() + seconds

    def heard(self, device: BLEDevice, rssi: int, said: Advertised, now: datetime) -> None:
        self.device, self._heard_at, self._said = device, time.monotonic(), said
        self.state.last_heard, self.state.rssi = now, rssi
        if self.state.reason == _UNHEARD:
            self.say("heard, waiting for its turn", now)

    def forget_device(self) -> None:
        """BlueZ's object of it is gone: it must be heard anew."""
        self.device, self._heard_at, self.lost_bond = None, None, False
        self.state.bonded, self.state.failures = False, 0

    def look(self, now: datetime) -> None:
        """What shows by itself with time: that a connection works, or how long the patch was not heard."""
        if self.connection:
            if self.connection.complete and (self.connection.proven or not self.patch.authenticated):
                self._works()
            return
        if self.state.pair_again or self._heard_at is None:
            return
        silent = time.monotonic() - self._heard_at
        if silent > max(_AWAY, FRESH_SECONDS):
            self.say("out of range or switched off: its records wait on the patch", now)

    def connected(self, now: datetime) -> None:
        self.state.connected, self.state.connects = True, self.state.connects + 1
        self.say("connected", now)

    def ended(self, reason: str, complete: bool, now: datetime) -> None:
        """The connection ended without a fault of the patch, or the link was lost."""
        self.state.connected = False
        self._tried_at = time.monotonic()
        self.say(reason, now)
        self.wait(_PAUSE)
        if complete:
            self._data_at, self._known_sequence = time.monotonic(), self._said.sequence
            self._works()

    def _works(self) -> None:
        """Everything stored came over this connection: what was suspected of the bond is not so."""
        self.state.failures, self.lost_bond, self.state.pair_again = 0, False, False
        self.state.bonded = self.patch.authenticated or self.state.bonded

    def failed(self, reason: str, now: datetime) -> bool:
        """The patch did not do what was asked. True when it happens too often for a bond that both sides have."""
        at = time.monotonic()
        if not self.state.failures or self._tried_at is None or at - self._tried_at > _ROW_SECONDS:
            self.state.failures, self._fails_since = 0, at
        self._tried_at = at
        self.state.connected = False
        self.state.failures += 1
        self.say(reason, now)
        self.wait(backoff(self.state.failures))
        return self.state.failures >= _SUSPICIOUS and at - self._fails_since >= _SUSPICIOUS_SECONDS

    def bond_lost(self, reason: str, now: datetime) -> None:
        """Do not try again and again: a person must help. Now and then all the same: it may have been the distance."""
        self.lost_bond, self.state.pair_again, self.state.bonded = True, True, False
        self.say(f"{reason}; {_PAIR_AGAIN}", now)
        self.wait(0 if self.patch.passkey is not None else _SELDOM)

    def unbonded(self, *, stranger: bool, now: datetime) -> None:
        """There is no bond, or one that a `stranger` may have made."""
        what = "BlueZ's bond with it was not made here with its passkey" if stranger else "BlueZ has no bond with it"
        self.state.pair_again = True
        self.say(f"paired here, but {what}; {_PAIR_AGAIN}", now)
        self.wait(_ASK_BLUEZ)

    def bond_starts(self, now: datetime) -> None:
        """An attempt with the passkey: it counts however it ends."""
        self._bond_tries += 1
        self.say("pairing", now)

    def bond_tried(self, outcome: Bonding, now: datetime) -> None:
        """The attempt ended."""
        self.state.bonded = outcome.bonded
        if outcome.bonded:
            self._bond_tries, self.state.pair_again, self.lost_bond = 0, False, False
            self.patch = replace(self.patch, bonded=True)  # the registry follows as soon as it is durable
            self.say(outcome.reason, now)
            return
        # BlueZ forgets a device whose pairing failed: it must be heard anew.
        self.device = None
        if outcome.final:
            self._bond_tries = _BOND_TRIES
        self.state.pair_again = self._bond_tries >= _BOND_TRIES
        self.say(f"{outcome.reason}; {_PAIR_AGAIN}" if self.state.pair_again else outcome.reason, now)
        self.wait(_LONG if self.state.pair_again else _PAUSE)

    def radio_lost(self, now: datetime) -> None:
        """The adapter or bluetoothd is gone: nothing known of the air is true any more."""
        self.device, self._heard_at, self._not_before = None, None, 0.0
        self.state.connected, self.state.bonded = False, None
        self.say(_NO_ADAPTER, now)

    def radio_back(self, now: datetime) -> None:
        """The adapter is there again; the patch may have gone meanwhile."""
        if self.state.reason == _NO_ADAPTER:
            self.say(_UNHEARD, now)
