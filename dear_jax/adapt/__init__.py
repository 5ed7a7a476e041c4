"""The method: attribute tokens, the role mask, the adapted towers, fusion (METHOD.md sections 2 to 4)."""
