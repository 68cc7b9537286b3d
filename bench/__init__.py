"""What a worker costs, measured beside a plain loop in the same run: `python -m bench`."""
