"""Run by alembic for each upgrade: on the connection that it is given, in that connection's transaction."""

from alembic import context

from federation.partners.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # SQLite too: the store begins its transactions itself
)
with context.begin_transaction():
    context.run_migrations()
