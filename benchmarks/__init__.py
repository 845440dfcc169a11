"""Speed and quality, measured against peers in one run: each module prints a table and writes JSON."""
