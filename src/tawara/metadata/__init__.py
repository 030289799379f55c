"""The SQL database: all SQL statements, the schema, and the database engines."""
