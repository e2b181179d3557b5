"""Builds the option tables from the tools' published packages."""
