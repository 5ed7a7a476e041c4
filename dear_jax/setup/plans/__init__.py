"""What each job works by: one frozen plan per job, made from the config. Nothing below reads a config."""
