"""Applications at a bundle node: mailboxes, AAP 2.0, HTTP, and what travels between them and the node."""
