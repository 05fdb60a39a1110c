"""The command line: wiring, options, output, and one file for each command."""
