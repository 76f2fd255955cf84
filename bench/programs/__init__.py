"""The measured programs: each module is an ordinary program that uses the library, and its functions measure it."""
