"""Which attention head does what: decomposition, descriptions, concepts, the role map."""
