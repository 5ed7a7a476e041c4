"""From a config to plans and objects: the only readers of a config."""
