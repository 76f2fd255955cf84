"""The documentation is true: its programs run as they are written, and what they print is what the pages show."""
