"""One file for each command: options to settings, one or two library calls, output."""
