"""The schema of the service's database, as revisions by Alembic.

To add one: write ``versions/rNNNN_<what>.py`` with the next number as ``revision``, the newest as ``down_revision``,
``additive`` and both functions, and change the component's `sqlalchemy.Table` alike (``tests/migrations`` compares).

A revision is additive if the releases before it can go on reading and writing the database: new tables, indexes, and
columns that are nullable or have a server default. After a roll-back such a release opens the newer database as it is.
``downgrade`` removes what a revision's release alone needs, and keeps tables and columns with users' data unless the
earlier release fails beside them; so ``upgrade`` creates what is missing (`components.migrations.additions`).
"""
