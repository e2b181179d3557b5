"""The figures in the README, each made by one command."""
