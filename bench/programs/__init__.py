"""What is measured: each module is an ordinary program of the library, and its functions measure something."""
