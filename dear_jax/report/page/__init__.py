"""The parts of the page of a role map: what roles_html.py puts together."""
