"""Airflow's view of the DAG releases of this host: a versioned DAG bundle whose versions are the releases.

A run keeps the release that it began on, and so do its tasks, whatever is put in place meanwhile. Every component
imports this file, so it lies outside of the releases and needs nothing but Airflow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle

try:
    from airflow.dag_processing.bundles.base import BundleVersion
except ImportError:  # Airflow before 3.3 takes the version itself
    BundleVersion = str


class ReleaseBundle(BaseDagBundle):
    """DAGs of the release that a run is pinned to; without one, of the release that the link `current` points at.

    :param root: Directory with `releases/<id>/dags` and `current`.
    """

    supports_versioning = True

    def __init__(self, *, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._root = Path(root)
        self._release = self.version

    def _current(self) -> str:
        return (self._root / "current").readlink().name

    def initialize(self) -> None:
        """Decide on the release, for as long as this object lives or until it is refreshed."""
        self._release = self.version or self._current()
        super().initialize()

    def refresh(self) -> None:
        """Follow the link. Between two calls path and version stay as they are: what was parsed in one release is never
        stored as another.
        """
        if not self.version:
            self._release = self._current()

    def get_current_version(self) -> BundleVersion:
        """Return the id of the release."""
        return BundleVersion(self._release or self._current())

    @property
    def path(self) -> Path:
        """Return the folder with the DAGs."""
        return self._root / "releases" / (self._release or self._current()) / "dags"
