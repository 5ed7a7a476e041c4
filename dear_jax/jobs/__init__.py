"""What `config.job` names: one file per job, each with `make_plan`, `run` and `describe` (its dry run)."""
