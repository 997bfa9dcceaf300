"""An experiment's place in its storage, which is found or made when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossamer.search import schema
from gossamer.search.trials.databases import open_storage
from gossamer.search.trials.storage import Store


class Opening:
    """The store of an experiment, opened without writing until it must write.

    Args:
        url: of the storage; None keeps trials in memory.
        name: of the experiment.
        definition: of the experiment, in the form in which it is stored.

    Attributes:
        definition: the one to store.
        agreed: whether the stored definition is followed; else this one is to replace it.
        data: fingerprints of the data, to be stored.
        earlier: the earlier experiment that it learns from, to be stored.

    Raises:
        UserError: a storage that cannot be used, or has another definition.
    """

    def __init__(self, url: str | None, name: str, definition: dict[str, Any]) -> None:
        self._url = url
        self._name = name
        self._store: Store | None = None
        self.definition = definition
        self.data: Mapping[str, str] = {}
        self.earlier: dict[str, Any] | None = None
        self.agreed = self._replaces = False
        if (reading := self.reading) is not None:
            stored, self.definition = schema.agree(reading, definition)
            self.agreed = stored == self.definition
            self._replaces = stored is not None

    @property
    def reading(self) -> Store | None:
        """The store for reading; None, without creating a database, if there is none yet."""
        if self._store is None and self._url is not None:
            self._store = schema.find(self._url, self._name)
        return self._store

    def writing(self, objectives: Mapping[str, str]) -> Store:
        """Return the store for writing, with this definition; it is created if there is none yet.

        Args:
            objectives: goals of the optimized metrics by name.
        """
        if self._store is None:
            self._store = Store(open_storage(self._url), self._name, objectives)
        if not self.agreed:
            stored, self.definition = schema.agree(self._store, self.definition)
            if stored is None or self._replaces:
                self._store.keep_objectives(objectives)
                self._store.definition = self.definition
            if self.earlier is not None:
                self._store.earlier = self.earlier
            self.agreed = True
        if self.data:
            self._store.data = schema.agree_on_data(self._store, self.data)
            self.data = {}
        return self._store
