"""``insert`` with ON CONFLICT, which the two databases spell alike.

It is PostgreSQL's construct, that SQLAlchemy renders for SQLite as well: the tests run on both.
"""

from sqlalchemy.dialects.postgresql import insert

__all__ = ["insert"]
