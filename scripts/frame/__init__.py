"""Set-up of a machine for marsnet. Standard library only, because nothing is installed yet when it runs."""
