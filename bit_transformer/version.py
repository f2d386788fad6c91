"""The version. The package, its build and the command line all read it here."""

__version__ = "0.1.0"
