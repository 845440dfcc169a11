"""The command line: options, files, progress and output of the commands."""
