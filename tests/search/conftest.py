"""Every storage that an experiment may be in."""

import itertools

import pytest
import sqlalchemy
from tests.search.servers import PostgreSQL, needs_postgresql

_numbers = itertools.count()


def _server():
    needs_postgresql()
    server = PostgreSQL()
    try:
        yield server
    finally:
        server.close()


# One that no test kills, and one for a single test.
shared_postgresql = pytest.fixture(_server, scope="session", name="shared_postgresql")
postgresql = pytest.fixture(_server, name="postgresql")


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def storage(request, tmp_path):
    """A new storage of each kind: None for memory, else its URL."""
    if request.param == "memory":
        return None
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/s.db"
    url = request.getfixturevalue("shared_postgresql").url
    name = f"base{next(_numbers)}"
    driver = url.replace("postgresql://", "postgresql+psycopg://")
    engine = sqlalchemy.create_engine(driver, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.replace("/postgres", f"/{name}")
