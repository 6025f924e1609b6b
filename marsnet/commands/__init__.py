"""The sub-commands of the marsnet console script, one module each."""
