"""How large errors are to be expected."""
