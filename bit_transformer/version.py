"""The version, in the one place that the package, its build and the command line read."""

__version__ = "0.1.0"
