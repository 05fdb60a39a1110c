"""The one decoder: from bytes to pixels, and nothing else turns bytes into pixels."""
