"""Known: the connections and sessions that a cell was told of, and may therefore name.

Each ``cell`` has one; events and data filters put in what they tell of. The invariant: a cell names
nothing that is not here, and nothing stays here that its filter is not told of any more.
"""

from __future__ import annotations

from collections import Counter

from sluicegate.errors import BadContext
from sluicegate.filterapi import Connection, Session

__all__ = ["Known"]


class Known:
    """What one filter in a cell knows of the gate."""

    def __init__(self) -> None:
        self._connections: dict[str, Connection] = {}
        self._sessions: dict[str, Session] = {}
        self._uses: Counter[str] = Counter()
        #: How many tell of a connection or a session, by its identifier.

    def add(self, connection: Connection) -> None:
        """Take a connection of which the filter is told; as often as it is dropped."""
        self._connections[connection.id] = connection
        self._uses[connection.id] += 1
        self.add_session(connection.session)

    def drop(self, connection: Connection) -> None:
        """Take that one does not tell of it any more."""
        if self._is_last(connection.id):
            self._connections.pop(connection.id, None)
        self.drop_session(connection.session)

    def add_session(self, session: Session) -> None:
        """As ``add``, of a session."""
        self._sessions[session.id] = session
        self._uses[session.id] += 1

    def drop_session(self, session: Session) -> None:
        """As ``drop``, of a session."""
        if self._is_last(session.id):
            self._sessions.pop(session.id, None)

    def find(self, identifier: str) -> Connection | None:
        """Return a connection; None when it is over, or was never told of."""
        return self._connections.get(identifier)

    def connection(self, identifier: str) -> Connection:
        """Return a connection.

        Raises:
            BadContext: It is over for the filter.
        """
        found = self._connections.get(identifier)
        if found is None:
            raise BadContext("the connection is over")
        return found

    def session(self, identifier: str) -> Session:
        """Return a session.

        Raises:
            BadContext: It is over for the filter.
        """
        found = self._sessions.get(identifier)
        if found is None:
            raise BadContext("the session is over")
        return found

    def _is_last(self, identifier: str) -> bool:
        self._uses[identifier] -= 1
        if self._uses[identifier] > 0:
            return False
        del self._uses[identifier]
        return True
