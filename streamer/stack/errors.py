"""What can go wrong with the stack."""


class StackError(RuntimeError):
    """A server cannot be had; the message says which, why, and what to do."""
