"""Which attention head does what (METHOD.md section 1)."""
