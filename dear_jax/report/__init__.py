"""Results to pages, tables and figures of one run."""
