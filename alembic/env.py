"""How Alembic reaches the database: through the connection that identity_server.runtime.migrations hands over."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True)
context.run_migrations()
