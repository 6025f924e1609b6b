"""marsnet: rehearse the Mars Telecommunications Network before it flies."""

__version__ = "0.1.0"
