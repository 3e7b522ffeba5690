"""Files of any supported format read as one table."""
