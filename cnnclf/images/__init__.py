"""The one decoder: nothing else turns bytes into pixels."""
