"""The SQL database: every statement, its schema and its engines, and nothing else."""
